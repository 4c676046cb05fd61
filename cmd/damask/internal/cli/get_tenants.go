package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

func netNamespaces() resource[*tenancyv1.NetNamespace] {
	type namespace = *tenancyv1.NetNamespace
	return resource[namespace]{
		plural: "netnamespaces", aliases: []string{"netnamespace", "netns"},
		short: "show the namespaces and their VNIDs",
		fetch: func(ctx context.Context, s *session, name string) ([]namespace, error) {
			if name == "" {
				return s.netNamespaces(ctx)
			}
			return s.netNamespaces(ctx, name)
		},
		name: namespace.GetName,
		fill: fillNetNamespaces,
		columns: []column[namespace]{
			{title: "NAME", cell: namespace.GetName},
			{title: "NETID", cell: func(n namespace) string { return strconv.FormatUint(uint64(n.GetNetid()), 10) }},
			{title: "EGRESS IPS", cell: func(n namespace) string { return list(n.GetEgressIps()) }},
			{title: "MULTICAST", wide: true, cell: func(n namespace) string { return yesOrNo(n.GetMulticastEnabled()) }},
			{title: "POLICY LOG", wide: true, cell: func(n namespace) string { return policyLog(n) }},
			{title: "EGRESS ROUTERS", wide: true, cell: func(n namespace) string { return list(n.GetEgressRouterSources()) }},
			{title: "LABELS", wide: true, cell: func(n namespace) string { return labels(n.GetLabels()) }},
			{title: "REVISION", wide: true, cell: func(n namespace) string { return strconv.FormatUint(n.GetRevision(), 10) }},
		},
	}
}

func yesOrNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// namespaceAndName reads "[NAMESPACE/NAME | NAME]" beside the flag --namespace.
// Either is empty when it was not given.
func namespaceAndName(namespace string, args []string) (within, name string, err error) {
	if len(args) == 0 {
		return namespace, "", nil
	}
	before, after, found := strings.Cut(args[0], "/")
	if !found {
		return namespace, args[0], nil
	}
	if namespace != "" && namespace != before {
		return "", "", fmt.Errorf("%s is not in namespace %s", args[0], namespace)
	}
	return before, after, nil
}

func podColumns() []column[*tenancyv1.Pod] {
	type pod = *tenancyv1.Pod
	return []column[pod]{
		{title: "NAMESPACE", cell: pod.GetNamespace},
		{title: "NAME", cell: pod.GetName},
		{title: "IP", cell: func(p pod) string { return strings.Join(p.GetIps(), ",") }},
		{title: "NODE", cell: pod.GetNode},
		{title: "NETID", cell: func(p pod) string {
			if p.Netid == nil {
				return "-" // its namespace has no VNID
			}
			return strconv.FormatUint(uint64(p.GetNetid()), 10)
		}},
		{title: "LABELS", wide: true, cell: func(p pod) string { return labels(p.GetLabels()) }},
		{title: "SANDBOX", wide: true, cell: func(p pod) string { return cmp.Or(p.GetSandboxId(), "-") }}, // no agent has reported it
		{title: "ATTACHED", wide: true, cell: func(p pod) string {
			if p.GetAttachTime() == nil {
				return "-"
			}
			return p.GetAttachTime().AsTime().Format(time.RFC3339)
		}},
	}
}

// getPodsCommand shows pods: all, those of a namespace or a node, or one.
func (a *app) getPodsCommand(f *format) *cobra.Command {
	var namespace, node string
	command := &cobra.Command{
		Use:     "pods [NAMESPACE/NAME | NAME]",
		Aliases: []string{"pod"},
		Short:   "Show the pods on the network",
		Args:    cobra.MaximumNArgs(1),
		RunE: a.ask(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			within, name, err := namespaceAndName(namespace, args)
			if err != nil {
				return err
			}
			pods, err := s.podList(ctx, within, node)
			if err != nil {
				return err
			}
			if name != "" {
				pods = slices.DeleteFunc(pods, func(p *tenancyv1.Pod) bool { return p.GetName() != name })
				if len(pods) == 0 {
					return fmt.Errorf("there is no pod named %q on the network", args[0])
				}
			}
			return show(command.OutOrStdout(), *f, pods, podColumns())
		}),
		ValidArgsFunction: a.complete(1, func(ctx context.Context, s *session) ([]string, error) {
			pods, err := s.podList(ctx, namespace, node)
			names := make([]string, len(pods))
			for i, p := range pods {
				names[i] = p.GetNamespace() + "/" + p.GetName()
			}
			return names, err
		}),
	}
	flags := command.Flags()
	flags.StringVarP(&namespace, "namespace", "n", "", "only the pods of this namespace")
	flags.StringVar(&node, "node", "", "only the pods on this node")
	_ = command.RegisterFlagCompletionFunc("namespace", a.complete(-1, netNamespaces().names))
	_ = command.RegisterFlagCompletionFunc("node", a.complete(-1, hostSubnets().names))
	return command
}
