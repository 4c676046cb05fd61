package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	nodev1 "github.com/damask-sdn/damask/proto/damask/node/v1"
)

// lastTable is the highest table number; OpenFlow keeps 255 for itself.
const lastTable = 254

// purpose says what a table is for.
func purpose(table uint32) string {
	switch table {
	case 0:
		return "sort by where it came in"
	case 10:
		return "from the tunnel: known nodes only"
	case 20:
		return "from pods: IP and ARP source belong to the port; loads the source VNID"
	case 21:
		return "from pods, on the way out (egress policy)"
	case 25:
		return "back from iptables: reloads the source VNID"
	case 30:
		return "sort by destination"
	case 40:
		return "ARP for local pods"
	case 50:
		return "ARP for remote pods"
	case 60:
		return "service addresses"
	case 70:
		return "IP to local pods: loads the destination VNID and the port"
	case 80:
		return "may this source VNID reach this destination VNID?"
	case 90:
		return "IP to remote pods"
	case 100:
		return "leaving the cluster: egress IP"
	case 101:
		return "leaving the cluster: egress firewall, out by tun0"
	case 110, 111, 120:
		return "multicast"
	case 253:
		return "marker: who set this bridge up"
	}
	return "not one of ours"
}

func (a *app) flowsCommand() *cobra.Command {
	var tables []uint
	command := &cobra.Command{
		Use:   "flows NODE",
		Short: "Show a node's flows table by table, and what each is for",
		Args:  cobra.ExactArgs(1),
		PreRunE: func(*cobra.Command, []string) error {
			for _, table := range tables {
				if table > lastTable {
					return fmt.Errorf("there is no table %d: 0 to %d", table, lastTable)
				}
			}
			return nil
		},
		ValidArgsFunction: a.complete(1, hostSubnets().names),
	}
	f := addFormatFlag(command)
	command.RunE = a.ask(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
		flows, err := s.flows(ctx, args[0])
		if err != nil {
			return err
		}
		if len(tables) > 0 {
			flows = slices.DeleteFunc(flows, func(flow *nodev1.Flow) bool { return !slices.Contains(tables, uint(flow.GetTable())) })
		}
		if *f == "json" || *f == "yaml" {
			return show(command.OutOrStdout(), *f, flows, nil)
		}
		return dump(command.OutOrStdout(), flows, *f == "wide")
	})
	command.Flags().UintSliceVar(&tables, "table", nil, "only this table; may be repeated")
	return command
}

// flows asks a node's agent for what is in its switch.
func (s *session) flows(ctx context.Context, node string) ([]*nodev1.Flow, error) {
	answer, err := s.subnets.GetHostSubnet(ctx, &ipamv1.GetHostSubnetRequest{Node: node})
	if err != nil {
		return nil, err
	}
	agent, done, err := s.agent(answer.GetHostSubnet())
	if err != nil {
		return nil, err
	}
	defer done()
	dumped, err := agent.ListFlows(ctx, &nodev1.ListFlowsRequest{}, grpc.MaxCallRecvMsgSize(maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("the agent of node %s: %w", node, explain(err))
	}
	return dumped.GetFlows(), nil
}

// dump prints flows under a heading for each table, each below a comment with
// its owner and purpose; with packet counts if they are wanted.
func dump(out io.Writer, flows []*nodev1.Flow, counts bool) error {
	w := bufio.NewWriter(out)
	for i, flow := range flows {
		if i == 0 || flow.GetTable() != flows[i-1].GetTable() {
			if i > 0 {
				fmt.Fprintln(w)
			}
			fmt.Fprintf(w, "table %d: %s\n", flow.GetTable(), purpose(flow.GetTable()))
		}
		owner := flow.GetOwner()
		if owner == "" {
			owner = "nobody's, the next audit removes it"
		}
		comment := owner
		if flow.GetComment() != "" {
			comment += ": " + flow.GetComment()
		}
		if counts {
			comment += fmt.Sprintf(" (%s)", count(int(flow.GetPackets()), "packet")) //nolint:gosec // no switch counts 2^63 packets
		}
		fmt.Fprintf(w, "  # %s\n  %s\n", comment, flow.GetText())
	}
	return w.Flush()
}
