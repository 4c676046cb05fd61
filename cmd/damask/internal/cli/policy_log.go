package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

func (a *app) policyLogCommand() *cobra.Command {
	var denied, allowed, off bool
	command := a.namespacesCommand("log NAMESPACE... {--denied|--allowed|--off}", "Say which decisions of policies about pods of namespaces their nodes log",
		func(ctx context.Context, s *session, name string) (*tenancyv1.NetNamespace, error) {
			if off == (denied || allowed) {
				return nil, errors.New("say --denied, --allowed or both, or --off")
			}
			answer, err := s.namespaces.SetNetNamespacePolicyLog(ctx, &tenancyv1.SetNetNamespacePolicyLogRequest{Name: name, Denied: denied, Allowed: allowed})
			return answer.GetNetNamespace(), err
		},
		func(ns *tenancyv1.NetNamespace) string { return "logs " + policyLog(ns) })
	command.Long = "Say which decisions of policies about pods of namespaces their nodes log, in the modes\n" +
		"networkpolicy and combined. What is asked for takes the place of what was. Each node's\n" +
		"agent writes a line \"policy decision\" for the first packet of a connection, at most\n" +
		"100 a second for all of the node."
	command.Flags().BoolVar(&denied, "denied", false, "connections that policies deny")
	command.Flags().BoolVar(&allowed, "allowed", false, "connections that a rule of a policy allows")
	command.Flags().BoolVar(&off, "off", false, "nothing any more")
	return command
}

// policyLog says what of a namespace is logged.
func policyLog(ns *tenancyv1.NetNamespace) string {
	switch denied, allowed := ns.GetPolicyLogDenied(), ns.GetPolicyLogAllowed(); {
	case denied && allowed:
		return "denied,allowed"
	case denied:
		return "denied"
	case allowed:
		return "allowed"
	}
	return "nothing"
}
