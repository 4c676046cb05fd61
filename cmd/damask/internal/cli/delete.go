package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// manyNames is a limit on arguments that nobody reaches.
const manyNames = 1 << 20

func (a *app) deleteCommand() *cobra.Command {
	remove := &cobra.Command{
		Use: "delete RESOURCE NAME...", Short: "Delete objects",
		Args: cobra.NoArgs, RunE: needsVerb,
	}
	remove.AddCommand(a.deleteNetNamespaceCommand(), a.deleteHostSubnetCommand(), a.deleteEndpointSliceCommand())
	return remove
}

func (a *app) deleteNetNamespaceCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "netnamespace NAME...",
		Aliases: []string{"netns"},
		Short:   "Take namespaces' VNIDs back",
		Args:    cobra.MinimumNArgs(1),
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			var problems []error
			for _, name := range args {
				if _, err := s.namespaces.DeleteNetNamespace(ctx, &tenancyv1.DeleteNetNamespaceRequest{Name: name}); err != nil {
					problems = append(problems, explain(err))
					continue
				}
				fmt.Fprintf(command.OutOrStdout(), "netnamespace %s deleted\n", name)
			}
			return errors.Join(problems...)
		}),
		ValidArgsFunction: a.complete(manyNames, netNamespaces().names),
	}
}

func (a *app) deleteHostSubnetCommand() *cobra.Command {
	var uid string
	command := &cobra.Command{
		Use:   "hostsubnet NODE...",
		Short: "Say that nodes are gone for good, and free their subnets",
		Long: "Say that nodes are gone for good, and free their subnets. The other nodes stop\n" +
			"sending there, and the nodes' pods are no longer on the network: their\n" +
			"namespaces can be deleted. It is done at once, and again is as once.\n\n" +
			"Not for a node that is only off: that one keeps its subnet. A node that comes\n" +
			"back, or never was gone, registers anew, with another subnet; pods that run\n" +
			"there have addresses of the former one, and must be made anew.",
		Args: cobra.MinimumNArgs(1),
		PreRunE: func(_ *cobra.Command, args []string) error {
			if uid != "" && len(args) > 1 {
				return errors.New("--node-uid is one machine's: name one node")
			}
			return nil
		},
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			var problems []error
			for _, node := range args {
				if _, err := s.subnets.ReleaseHostSubnet(ctx, &ipamv1.ReleaseHostSubnetRequest{Node: node, NodeUid: uid}); err != nil {
					problems = append(problems, explain(err))
					continue
				}
				fmt.Fprintf(command.OutOrStdout(), "hostsubnet %s deleted\n", node)
			}
			return errors.Join(problems...)
		}),
		ValidArgsFunction: a.complete(manyNames, hostSubnets().names),
	}
	command.Flags().StringVar(&uid, "node-uid", "", "only if the node is still the machine with this identity (see get hostsubnets -o wide)")
	_ = command.RegisterFlagCompletionFunc("node-uid", cobra.NoFileCompletions) // the flag was added above
	return command
}
