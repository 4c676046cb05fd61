package cli

import (
	"context"

	"github.com/spf13/cobra"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

func (a *app) multicastCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "multicast", Short: "Say whose pods may send and receive multicast",
		Args: cobra.NoArgs, RunE: needsVerb,
	}
	group.AddCommand(
		a.setMulticastCommand("enable NAME...", "let the pods of namespaces exchange multicast with their tenant", true),
		a.setMulticastCommand("disable NAME...", "keep the pods of namespaces from multicast", false),
	)
	return group
}

func (a *app) setMulticastCommand(use, short string, enabled bool) *cobra.Command {
	return a.namespacesCommand(use, short,
		func(ctx context.Context, s *session, name string) (*tenancyv1.NetNamespace, error) {
			answer, err := s.namespaces.SetNetNamespaceMulticast(ctx, &tenancyv1.SetNetNamespaceMulticastRequest{Name: name, Enabled: enabled})
			return answer.GetNetNamespace(), err
		},
		func(ns *tenancyv1.NetNamespace) string {
			if ns.GetMulticastEnabled() {
				return "has multicast"
			}
			return "has no multicast"
		})
}
