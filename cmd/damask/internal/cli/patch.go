package cli

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/damask-sdn/damask/internal/configfile"
	"github.com/damask-sdn/damask/internal/rpcerr"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// namespacePatch is what can be patched of a netnamespace.
type namespacePatch struct {
	EgressIPs []string         `yaml:"egressIPs"`
	PodEgress []podEgressPatch `yaml:"podEgress"`
}

type podEgressPatch struct {
	Name        string            `yaml:"name"`
	PodSelector map[string]string `yaml:"podSelector"`
	EgressIPs   []string          `yaml:"egressIPs"`
}

// subnetPatch is what can be patched of a hostsubnet.
type subnetPatch struct {
	EgressIPs      []string `yaml:"egressIPs"`
	EgressCIDRs    []string `yaml:"egressCIDRs"`
	EgressCapacity *uint32  `yaml:"egressCapacity"`
}

// parsePatch reads a merge patch (RFC 7396), in json or yaml: a field that is given
// replaces the whole field, null takes it away, and one that is not given stays. It
// answers which are given.
func parsePatch[T any](text string, into *T) (given map[string]bool, err error) {
	if err := configfile.Parse("patch", []byte(text), into, nil); err != nil {
		return nil, err
	}
	fields := map[string]yaml.Node{}
	if err := yaml.Unmarshal([]byte(text), &fields); err != nil {
		return nil, fmt.Errorf("patch: %w", err)
	}
	given = map[string]bool{}
	for name := range maps.Keys(fields) {
		given[name] = true
	}
	if len(given) == 0 {
		return nil, fmt.Errorf("patch: %q changes nothing", text)
	}
	return given, nil
}

func (n namespacePatch) apply(given map[string]bool, to *egressv1.NetNamespaceEgress) {
	if given["egressIPs"] {
		to.EgressIps = n.EgressIPs
	}
	if !given["podEgress"] {
		return
	}
	to.Pods = nil
	for _, p := range n.PodEgress {
		to.Pods = append(to.Pods, &egressv1.PodEgress{Name: p.Name, PodSelector: p.PodSelector, EgressIps: p.EgressIPs})
	}
}

func (n subnetPatch) apply(given map[string]bool, to *egressv1.HostSubnetEgress) {
	if given["egressIPs"] {
		to.EgressIps = n.EgressIPs
	}
	if given["egressCIDRs"] {
		to.EgressCidrs = n.EgressCIDRs
	}
	if given["egressCapacity"] {
		to.Capacity = n.EgressCapacity
	}
}

func (a *app) patchCommand() *cobra.Command {
	patch := &cobra.Command{
		Use: "patch RESOURCE NAME -p PATCH", Short: "Change some fields of an object",
		Args: cobra.NoArgs, RunE: needsVerb,
	}
	patch.AddCommand(a.patchNetNamespaceCommand(), a.patchHostSubnetCommand())
	return patch
}

// addPatchFlags adds the flags that oc patch has.
func addPatchFlags(command *cobra.Command, text *string, wait *bool) {
	command.Flags().StringVarP(text, "patch", "p", "", "the fields and their new values, in json or yaml; null takes one away")
	_ = command.MarkFlagRequired("patch")
	kind := command.Flags().String("type", "merge", "how the patch is meant: merge, or strategic, which is the same for these fields")
	_ = command.RegisterFlagCompletionFunc("type", cobra.FixedCompletions([]string{"merge", "strategic"}, cobra.ShellCompDirectiveNoFileComp))
	_ = command.RegisterFlagCompletionFunc("patch", cobra.NoFileCompletions)
	command.PreRunE = func(*cobra.Command, []string) error {
		if *kind != "merge" && *kind != "strategic" {
			return fmt.Errorf("--type %s: merge or strategic", *kind)
		}
		return nil
	}
	addWaitFlag(command, wait)
}

func (a *app) patchNetNamespaceCommand() *cobra.Command {
	var text string
	var wait bool
	command := &cobra.Command{
		Use:     "netnamespace NAME -p PATCH",
		Aliases: []string{"netns"},
		Short:   "Say by which egress IPs a namespace leaves the cluster",
		Long: "Say by which egress IPs a namespace leaves the cluster. Fields of the patch:\n\n" +
			"  egressIPs   addresses by which its pods leave; connections are spread over them\n" +
			"  podEgress   a list of pods that leave by others: {name, podSelector: {KEY: VALUE}, egressIPs}\n\n" +
			"While a namespace has egress IPs and no node hosts one, its pods do not get out.",
		Example: `  damask patch netnamespace shop -p '{"egressIPs": ["192.168.108.200"]}'`,
		Args:    cobra.ExactArgs(1),
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			var patch namespacePatch
			given, err := parsePatch(text, &patch)
			if err != nil {
				return err
			}
			before, err := s.egressNow(ctx, args[0])
			if err != nil {
				return err
			}
			stored, err := s.patchNamespace(ctx, args[0], given, patch)
			if err != nil {
				return err
			}
			return s.announceEgress(ctx, command, wait, egressChange{
				revision: stored.GetRevision(), namespace: args[0], before: before,
				concerns: func(*egressv1.AssignedAddress) bool { return true },
			}, func(after []*egressv1.EgressAssignment) []string { return namespaceLines(stored, after) })
		}),
		ValidArgsFunction: a.complete(1, netNamespaces().names),
	}
	addPatchFlags(command, &text, &wait)
	return command
}

// namespaceLines say what a namespace wants, and what has become of each address.
func namespaceLines(stored *egressv1.NetNamespaceEgress, after []*egressv1.EgressAssignment) []string {
	if len(after) == 0 {
		return []string{fmt.Sprintf("netnamespace %s has no egress IPs", stored.GetNamespace())}
	}
	var lines []string
	for _, row := range egressIPRows(after, nil, "") {
		lines = append(lines, fmt.Sprintf("netnamespace %s: egress IP %s", stored.GetNamespace(), whereIs(row.address)))
	}
	return lines
}

// patchNamespace reads, changes and stores, again if somebody came between.
func (s *session) patchNamespace(ctx context.Context, name string, given map[string]bool, patch namespacePatch) (*egressv1.NetNamespaceEgress, error) {
	for {
		wishes, err := s.namespaceEgress(ctx, name)
		if err != nil {
			return nil, err
		}
		wish := &egressv1.NetNamespaceEgress{Namespace: name}
		if len(wishes) > 0 {
			wish = wishes[0]
		}
		patch.apply(given, wish)
		answer, err := s.egress.SetNetNamespaceEgress(ctx, &egressv1.SetNetNamespaceEgressRequest{NetNamespaceEgress: wish})
		if rpcerr.Reason(err) != staleRevision {
			return answer.GetNetNamespaceEgress(), err
		}
	}
}

func (a *app) patchHostSubnetCommand() *cobra.Command {
	var text string
	var wait bool
	command := &cobra.Command{
		Use:   "hostsubnet NODE -p PATCH",
		Short: "Say which egress IPs a node may host",
		Long: "Say which egress IPs a node may host. Fields of the patch:\n\n" +
			"  egressIPs        addresses that this node hosts; if several nodes name one, the others stand by\n" +
			"  egressCIDRs      ranges from which addresses that no node names are placed here\n" +
			"  egressCapacity   how many it hosts at most; null: as many as there are",
		Example: `  damask patch hostsubnet node1 -p '{"egressCIDRs": ["192.168.108.192/27"]}'`,
		Args:    cobra.ExactArgs(1),
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			var patch subnetPatch
			given, err := parsePatch(text, &patch)
			if err != nil {
				return err
			}
			before, err := s.egressNow(ctx, "")
			if err != nil {
				return err
			}
			stored, err := s.patchSubnet(ctx, args[0], given, patch)
			if err != nil {
				return err
			}
			return s.announceEgress(ctx, command, wait, egressChange{
				revision: stored.GetRevision(), before: before,
				concerns: func(a *egressv1.AssignedAddress) bool { return a.GetNode() == args[0] || mayHost(stored, a.GetIp()) },
			}, func(after []*egressv1.EgressAssignment) []string { return subnetLines(stored, after) })
		}),
		ValidArgsFunction: a.complete(1, hostSubnets().names),
	}
	addPatchFlags(command, &text, &wait)
	return command
}

// mayHost tells whether a node's lists or ranges have an address.
func mayHost(offer *egressv1.HostSubnetEgress, ip string) bool {
	addr, err := netip.ParseAddr(ip)
	return err == nil && (slices.Contains(offer.GetEgressIps(), ip) || slices.ContainsFunc(offer.GetEgressCidrs(), func(text string) bool {
		cidr, err := netip.ParsePrefix(text)
		return err == nil && cidr.Contains(addr)
	}))
}

// subnetLines say what a node may host, and what it hosts now.
func subnetLines(stored *egressv1.HostSubnetEgress, after []*egressv1.EgressAssignment) []string {
	may := slices.Concat(stored.GetEgressIps(), stored.GetEgressCidrs())
	line := fmt.Sprintf("hostsubnet %s may host %s", stored.GetNode(), strings.Join(may, ", "))
	if len(may) == 0 {
		line = fmt.Sprintf("hostsubnet %s may host no egress IPs", stored.GetNode())
	}
	if stored.Capacity != nil && len(may) > 0 {
		line += fmt.Sprintf(", at most %d", stored.GetCapacity())
	}
	if stored.GetDrained() {
		line += ", but is drained"
	}
	var hosted []string
	for _, row := range egressIPRows(after, nil, "") {
		if row.address.GetState() == egressv1.AddressState_ADDRESS_STATE_HOSTED && row.address.GetNode() == stored.GetNode() {
			hosted = append(hosted, row.address.GetIp())
		}
	}
	return []string{fmt.Sprintf("%s, and hosts %s", line, list(hosted))}
}

// patchSubnet reads, changes and stores, again if somebody came between.
func (s *session) patchSubnet(ctx context.Context, node string, given map[string]bool, patch subnetPatch) (*egressv1.HostSubnetEgress, error) {
	for {
		offers, err := s.nodeEgress(ctx, node)
		if err != nil {
			return nil, err
		}
		offer := &egressv1.HostSubnetEgress{Node: node}
		if len(offers) > 0 {
			offer = offers[0]
		}
		patch.apply(given, offer)
		answer, err := s.egress.SetHostSubnetEgress(ctx, &egressv1.SetHostSubnetEgressRequest{HostSubnetEgress: offer})
		if rpcerr.Reason(err) != staleRevision {
			return answer.GetHostSubnetEgress(), err
		}
	}
}
