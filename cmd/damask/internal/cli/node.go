package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

func (a *app) nodeCommand() *cobra.Command {
	node := &cobra.Command{
		Use: "node", Short: "Prepare nodes for maintenance",
		Args: cobra.NoArgs, RunE: needsVerb,
	}
	drain := a.drainCommand("drain-egress NODE", "Move all egress IPs of a node to other nodes, and let it host none until restore-egress",
		func(ctx context.Context, s *session, node string) (*egressv1.HostSubnetEgress, error) {
			answer, err := s.egress.DrainEgress(ctx, &egressv1.DrainEgressRequest{Node: node})
			return answer.GetHostSubnetEgress(), err
		})
	drain.Long = "Move all egress IPs of a node to other nodes that may host them, and let it host none\n" +
		"until restore-egress. Each address moves as soon as the node has given it up; what no\n" +
		"other node may host is not hosted, and pods that leave by nothing else do not get out."
	restore := a.drainCommand("restore-egress NODE", "Let a node that was drained host egress IPs again",
		func(ctx context.Context, s *session, node string) (*egressv1.HostSubnetEgress, error) {
			answer, err := s.egress.RestoreEgress(ctx, &egressv1.RestoreEgressRequest{Node: node})
			return answer.GetHostSubnetEgress(), err
		})
	node.AddCommand(drain, restore)
	return node
}

// drainCommand is a command that drains a node or ends that, and waits for the nodes.
func (a *app) drainCommand(use, short string, change func(ctx context.Context, s *session, node string) (*egressv1.HostSubnetEgress, error)) *cobra.Command {
	var wait bool
	command := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			before, err := s.egressNow(ctx, "")
			if err != nil {
				return err
			}
			stored, err := change(ctx, s, args[0])
			if err != nil {
				return err
			}
			return s.announceEgress(ctx, command, wait, egressChange{
				revision: stored.GetRevision(), before: before,
				concerns: func(a *egressv1.AssignedAddress) bool { return a.GetNode() == args[0] || mayHost(stored, a.GetIp()) },
			}, func(after []*egressv1.EgressAssignment) []string {
				return drainLines(stored, args[0], before.assignments, after)
			})
		}),
		ValidArgsFunction: a.complete(1, hostSubnets().names),
	}
	addWaitFlag(command, &wait)
	return command
}

// drainLines say what a node hosts, and where each address went that it had.
func drainLines(stored *egressv1.HostSubnetEgress, node string, before, after []*egressv1.EgressAssignment) []string {
	var had, has []string
	for _, row := range egressIPRows(before, nil, "") {
		if row.address.GetNode() == node {
			had = append(had, row.address.GetIp())
		}
	}
	var lines []string
	for _, row := range egressIPRows(after, nil, "") {
		switch ip := row.address.GetIp(); {
		case row.address.GetNode() == node:
			has = append(has, ip)
		case slices.Contains(had, ip):
			lines = append(lines, whereIs(row.address))
		}
	}
	state := fmt.Sprintf("node %s may host egress IPs, and hosts %s", node, list(has))
	if stored.GetDrained() {
		state = fmt.Sprintf("node %s is drained of egress IPs, and hosts %s", node, list(has))
	}
	return append(lines, state)
}
