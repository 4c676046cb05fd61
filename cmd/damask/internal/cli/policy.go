package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/damask-sdn/damask/cmd/damask/internal/policyfile"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

func (a *app) policyCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "policy", Short: "Say which connections pods may have",
		Args: cobra.NoArgs, RunE: needsVerb,
	}
	group.AddCommand(a.policyApplyCommand(), a.policyDeleteCommand(), a.policyExplainCommand(), a.policyLogCommand())
	return group
}

func (a *app) policyApplyCommand() *cobra.Command {
	var file string
	var wait bool
	command := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Store policies of a file, in the place of those of the same name",
		Long: "Store policies of a file, in the place of those of the same name: NetworkPolicy,\n" +
			"AdminNetworkPolicy, BaselineAdminNetworkPolicy and ClusterNetworkPolicy, as Kubernetes\n" +
			"has them, in YAML or JSON. A policy with a field that is not supported is refused,\n" +
			"and what was stored before stays; the others of the file are stored.",
		Args: cobra.NoArgs,
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, _ []string) error {
			manifests, err := policyfile.Load(file)
			if err != nil {
				return err
			}
			var told []string
			var problems []error
			revision := uint64(0)
			for i, manifest := range manifests {
				answer, err := s.policies.ApplyNetworkPolicy(ctx, &tenancyv1.ApplyNetworkPolicyRequest{Manifest: manifest})
				if err != nil {
					problems = append(problems, fmt.Errorf("%s: %w", whichPolicy(manifest, i), explain(err)))
					continue
				}
				p := answer.GetNetworkPolicy()
				revision = max(revision, p.GetRevision())
				told = append(told, fmt.Sprintf("%s applied", policyName(p.GetKey())))
			}
			if len(told) > 0 {
				problems = append(problems, s.announceResolved(ctx, command, wait, told, revision))
			}
			return errors.Join(problems...)
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	command.Flags().StringVarP(&file, "filename", "f", "", "the file; - is the standard input")
	_ = command.MarkFlagRequired("filename")
	addWaitFlag(command, &wait)
	return command
}

func (a *app) policyDeleteCommand() *cobra.Command {
	var file string
	var wait bool
	command := &cobra.Command{
		Use:   "delete [KIND] NAMESPACE/NAME... | delete KIND NAME... | delete -f FILE",
		Short: "Remove policies",
		Long: "Remove policies: those of a file, or those named. Without a kind they are\n" +
			"NetworkPolicies. One that is not there is removed already.",
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			keys, err := policyKeys(file, args)
			if err != nil {
				return err
			}
			var told []string
			var problems []error
			revision := uint64(0)
			for _, key := range keys {
				answer, err := s.policies.DeleteNetworkPolicy(ctx, &tenancyv1.DeleteNetworkPolicyRequest{Key: key})
				if err != nil {
					problems = append(problems, fmt.Errorf("%s: %w", policyName(key), explain(err)))
					continue
				}
				revision = max(revision, answer.GetRevision())
				told = append(told, fmt.Sprintf("%s deleted", policyName(key)))
			}
			if len(told) > 0 {
				problems = append(problems, s.announceResolved(ctx, command, wait, told, revision))
			}
			return errors.Join(problems...)
		}),
		ValidArgsFunction: a.complete(manyNames, policyNames),
	}
	command.Flags().StringVarP(&file, "filename", "f", "", "the file of the policies; - is the standard input")
	addWaitFlag(command, &wait)
	return command
}

// policyKinds are the kinds by the names that are typed.
var policyKinds = map[string]string{
	"networkpolicy": "NetworkPolicy", "netpol": "NetworkPolicy",
	"adminnetworkpolicy": "AdminNetworkPolicy", "anp": "AdminNetworkPolicy",
	"baselineadminnetworkpolicy": "BaselineAdminNetworkPolicy", "banp": "BaselineAdminNetworkPolicy",
	"clusternetworkpolicy": "ClusterNetworkPolicy", "cnp": "ClusterNetworkPolicy",
}

// policyKeys reads which policies are meant.
func policyKeys(file string, args []string) ([]*tenancyv1.PolicyKey, error) {
	if (file == "") == (len(args) == 0) {
		return nil, errors.New("name policies, or a file by -f")
	}
	var keys []*tenancyv1.PolicyKey
	if file != "" {
		manifests, err := policyfile.Load(file)
		if err != nil {
			return nil, err
		}
		for i, m := range manifests {
			head, err := policyfile.ReadHead(m)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", whichPolicy(m, i), err)
			}
			keys = append(keys, &tenancyv1.PolicyKey{Kind: head.Kind, Namespace: head.Metadata.Namespace, Name: head.Metadata.Name})
		}
		return keys, nil
	}
	kind := "NetworkPolicy"
	if known := policyKinds[strings.ToLower(args[0])]; known != "" && len(args) > 1 {
		kind, args = known, args[1:]
	}
	for _, arg := range args {
		namespace, name, found := strings.Cut(arg, "/")
		switch {
		case kind == "NetworkPolicy" && !found:
			return nil, fmt.Errorf("%q is not NAMESPACE/NAME", arg)
		case kind != "NetworkPolicy" && found:
			return nil, fmt.Errorf("%q: %s has no namespace", arg, kind)
		case !found:
			namespace, name = "", arg
		}
		keys = append(keys, &tenancyv1.PolicyKey{Kind: kind, Namespace: namespace, Name: name})
	}
	return keys, nil
}

// whichPolicy says which one of a file a manifest is.
func whichPolicy(manifest string, i int) string {
	head, err := policyfile.ReadHead(manifest)
	if err != nil || head.Metadata.Name == "" {
		return fmt.Sprintf("policy number %d of the file", i+1)
	}
	return policyName(&tenancyv1.PolicyKey{Kind: head.Kind, Namespace: head.Metadata.Namespace, Name: head.Metadata.Name})
}

// policyName is "networkpolicy shop/allow-web", "adminnetworkpolicy no-telnet".
func policyName(k *tenancyv1.PolicyKey) string {
	if k.GetNamespace() == "" {
		return strings.ToLower(k.GetKind()) + " " + k.GetName()
	}
	return strings.ToLower(k.GetKind()) + " " + k.GetNamespace() + "/" + k.GetName()
}

// policyNames completes names of NetworkPolicies.
func policyNames(ctx context.Context, s *session) ([]string, error) {
	policies, err := s.policyList(ctx, "")
	var names []string
	for _, p := range policies {
		if p.GetKey().GetNamespace() != "" {
			names = append(names, p.GetKey().GetNamespace()+"/"+p.GetKey().GetName())
		}
	}
	return names, err
}

func (s *session) policyList(ctx context.Context, namespace string) ([]*tenancyv1.NetworkPolicy, error) {
	return everyPage(func(token string) ([]*tenancyv1.NetworkPolicy, string, error) {
		page, err := s.policies.ListNetworkPolicies(ctx, &tenancyv1.ListNetworkPoliciesRequest{Namespace: namespace, PageToken: token})
		return page.GetNetworkPolicies(), page.GetNextPageToken(), err
	})
}

// announceResolved tells of a change once all that policies make of it is in force on
// the nodes.
func (s *session) announceResolved(ctx context.Context, command *cobra.Command, wait bool, told []string, revision uint64, more ...object) error {
	if !wait {
		return s.announce(ctx, command, false, told, nil)
	}
	resolving := ctx
	if s.nodesTime > 0 {
		var cancel context.CancelFunc
		resolving, cancel = context.WithTimeout(command.Context(), s.nodesTime)
		defer cancel()
	}
	answer, err := s.policies.WaitResolved(resolving, &tenancyv1.WaitResolvedRequest{Revision: revision})
	if err != nil {
		return fmt.Errorf("the change is stored, but what follows from it for policies is not: %w", explain(err))
	}
	return s.announce(ctx, command, true, told, append(more, object{kind: "policies", name: "cluster", revision: answer.GetSequence()}))
}
