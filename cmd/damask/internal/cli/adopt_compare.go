package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/damask-sdn/damask/cmd/damask/internal/adopt"
	"github.com/damask-sdn/damask/cmd/damask/internal/adopt/compare"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// cellWidth is the most of a policy that a table shows: -o wide, json and yaml have all of it.
const cellWidth = 60

func (a *app) adoptCompareCommand() *cobra.Command {
	var source objectSource
	command := &cobra.Command{
		Use:   "compare [-f FILE... | --kubeconfig FILE]",
		Short: "Say where what Damask has differs from what the objects say",
		Long: "Say where what Damask has differs from what the objects say, and change nothing: the address\n" +
			"plan and the isolation mode, each HostSubnet, NetNamespace, EgressNetworkPolicy and\n" +
			"NetworkPolicy, egress IPs among them. Once Damask's services follow the cluster, and before\n" +
			"the first node is taken over, nothing should differ; what changes at this very moment may.\n\n" +
			"The command fails if something differs.",
		Args: cobra.NoArgs,
	}
	source.addFlags(command)
	output := addFormatFlag(command)
	command.RunE = a.run(objectsTime, func(ctx context.Context, s *session, command *cobra.Command, _ []string) error {
		cluster, err := source.read(ctx, command)
		if err != nil {
			return err
		}
		stores, err := s.stores(ctx)
		if err != nil {
			return err
		}
		found := compare.Differences(cluster, stores)
		if err := showDifferences(command.OutOrStdout(), *output, cluster, found); err != nil {
			return err
		}
		return differs(found)
	})
	return command
}

// differs is the error that something differs.
func differs(found []compare.Difference) error {
	if len(found) == 0 {
		return nil
	}
	return fmt.Errorf("not everything is in Damask as the objects say: %s", count(len(found), "difference"))
}

// stores reads what Damask has of what objects say. A cluster without the egress service has
// nothing of egress.
func (s *session) stores(ctx context.Context) (all compare.Stores, err error) {
	networks, err := s.networks.ListClusterNetworks(ctx, &ipamv1.ListClusterNetworksRequest{})
	if err != nil {
		return all, err
	}
	all.Networks = networks.GetClusterNetworks()
	isolation, err := s.isolation.GetIsolation(ctx, &tenancyv1.GetIsolationRequest{})
	if err != nil {
		return all, err
	}
	all.Mode = isolation.GetIsolation().GetMode()
	if all.HostSubnets, err = s.hostSubnets(ctx); err != nil {
		return all, err
	}
	if all.NetNamespaces, err = s.netNamespaces(ctx); err != nil {
		return all, err
	}
	if all.Policies, err = s.policyList(ctx, ""); err != nil || len(s.cluster.Egress) == 0 {
		return all, err
	}
	if all.NodeEgress, err = s.nodeEgress(ctx, ""); err != nil {
		return all, err
	}
	if all.NamespaceEgress, err = s.namespaceEgress(ctx, ""); err != nil {
		return all, err
	}
	all.Firewalls, err = s.firewallPolicies(ctx, "")
	return all, err
}

// showDifferences prints them; a table says what was compared when there are none.
func showDifferences(out io.Writer, f format, c adopt.Cluster, found []compare.Difference) error {
	list := struct {
		Differences []compare.Difference `json:"differences" yaml:"differences"`
	}{append([]compare.Difference{}, found...)}
	if printed, err := encode(out, f, list); printed || err != nil {
		return err
	}
	if len(found) == 0 {
		fmt.Fprintf(out, "Damask has what the objects say: %s\n", strings.Join([]string{
			count(len(c.HostSubnets), "HostSubnet"), count(len(c.NetNamespaces), "NetNamespace"), "their egress IPs",
			plural(len(c.EgressNetworkPolicies), "EgressNetworkPolicy", "EgressNetworkPolicies"),
			plural(len(c.NetworkPolicies), "NetworkPolicy", "NetworkPolicies"),
		}, ", "))
		return nil
	}
	cell := func(text string) string {
		if f != "wide" && len(text) > cellWidth {
			text = strings.ToValidUTF8(text[:cellWidth], "") + "…"
		}
		return orDash(text)
	}
	return table(out, f == "wide", found, []column[compare.Difference]{
		{title: "KIND", cell: func(d compare.Difference) string { return d.Kind }},
		{title: "NAME", cell: func(d compare.Difference) string { return d.Name }},
		{title: "FIELD", cell: func(d compare.Difference) string { return orDash(d.Field) }},
		{title: "OBJECT", cell: func(d compare.Difference) string { return cell(d.Object) }},
		{title: "DAMASK", cell: func(d compare.Difference) string { return cell(d.Damask) }},
	})
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
