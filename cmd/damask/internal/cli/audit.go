package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	nodev1 "github.com/damask-sdn/damask/proto/damask/node/v1"
)

func (a *app) auditCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "audit NODE...",
		Short: "Compare nodes with what they should be, now, and repair them",
		Long: "Compare nodes with what they should be, now, and repair them. Agents do so by\n" +
			"themselves every few minutes; this says at once what differed.",
		Args: cobra.MinimumNArgs(1),
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			var problems []error
			for _, node := range args {
				found, err := s.audit(ctx, node)
				if err != nil {
					problems = append(problems, err)
					continue
				}
				showAudit(command.OutOrStdout(), node, found)
			}
			return errors.Join(problems...)
		}),
		ValidArgsFunction: a.complete(manyNames, hostSubnets().names),
	}
}

// audit has a node's agent compare and repair.
func (s *session) audit(ctx context.Context, node string) (*nodev1.AuditResponse, error) {
	answer, err := s.subnets.GetHostSubnet(ctx, &ipamv1.GetHostSubnetRequest{Node: node})
	if err != nil {
		return nil, err
	}
	agent, done, err := s.agent(answer.GetHostSubnet())
	if err != nil {
		return nil, err
	}
	defer done()
	found, err := agent.Audit(ctx, &nodev1.AuditRequest{})
	if err != nil {
		return nil, fmt.Errorf("the agent of node %s: %w", node, explain(err))
	}
	return found, nil
}

func showAudit(out io.Writer, node string, found *nodev1.AuditResponse) {
	written, deleted, others := int(found.GetFlowsWritten()), int(found.GetFlowsDeleted()), len(found.GetRepairs())
	if written+deleted+others == 0 {
		fmt.Fprintf(out, "node %s: nothing differed\n", node)
		return
	}
	fmt.Fprintf(out, "node %s: %s written, %s deleted, %s\n", node,
		count(written, "flow"), count(deleted, "flow"), count(others, "other repair"))
	for _, repair := range found.GetRepairs() {
		fmt.Fprintf(out, "  %s\n", repair)
	}
}
