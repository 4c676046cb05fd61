package lab

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

func (c *commands) unplugCommand() *cobra.Command {
	return c.cableCommand("unplug NODE", "Pull a node's cable out of the underlay; the node itself goes on",
		"node %s: the cable is out\n", func(ctx context.Context, client *client, node string) error {
			_, err := client.Unplug(ctx, &labv1.UnplugRequest{Node: node})
			return err
		})
}

func (c *commands) plugCommand() *cobra.Command {
	return c.cableCommand("plug NODE", "Put a node's cable in again",
		"node %s: the cable is in\n", func(ctx context.Context, client *client, node string) error {
			_, err := client.Plug(ctx, &labv1.PlugRequest{Node: node})
			return err
		})
}

// cableCommand does something to the cable of one node, and says so.
func (c *commands) cableCommand(use, short, done string, do func(ctx context.Context, client *client, node string) error) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			command.SilenceUsage = true
			return c.call(command.Context(), func(ctx context.Context, client *client) error {
				if err := do(ctx, client, args[0]); err != nil {
					return plain(err)
				}
				_, err := fmt.Fprintf(command.OutOrStdout(), done, args[0])
				return err
			})
		},
	}
}
