package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

func (a *app) egressRouterCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "egress-router", Short: "Say whose pods may have addresses of the underlay",
		Args: cobra.NoArgs, RunE: needsVerb,
	}
	group.AddCommand(a.allowEgressRoutersCommand(), a.namespacesCommand("forbid NAME...", "keep the pods of namespaces from becoming egress routers",
		func(ctx context.Context, s *session, name string) (*tenancyv1.NetNamespace, error) {
			return s.setEgressRouters(ctx, name, nil)
		}, tellEgressRouters))
	return group
}

func (a *app) allowEgressRoutersCommand() *cobra.Command {
	var wait bool
	command := &cobra.Command{
		Use:   "allow NAME NETWORK...",
		Short: "let pods of a namespace become egress routers with addresses of these networks, and of no others",
		Args:  cobra.MinimumNArgs(2),
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			ns, err := s.setEgressRouters(ctx, args[0], args[1:])
			if err != nil {
				return err
			}
			told := fmt.Sprintf("netnamespace %s %s", ns.GetName(), tellEgressRouters(ns))
			return s.announce(ctx, command, wait, []string{told}, []object{{kind: "netnamespace", name: ns.GetName(), revision: ns.GetRevision()}})
		}),
		ValidArgsFunction: a.complete(1, netNamespaces().names),
	}
	addWaitFlag(command, &wait)
	return command
}

func (s *session) setEgressRouters(ctx context.Context, name string, sources []string) (*tenancyv1.NetNamespace, error) {
	answer, err := s.namespaces.SetNetNamespaceEgressRouters(ctx, &tenancyv1.SetNetNamespaceEgressRoutersRequest{Name: name, Sources: sources})
	return answer.GetNetNamespace(), err
}

func tellEgressRouters(ns *tenancyv1.NetNamespace) string {
	if len(ns.GetEgressRouterSources()) == 0 {
		return "may have no egress routers"
	}
	return "may have egress routers of " + strings.Join(ns.GetEgressRouterSources(), ", ")
}
