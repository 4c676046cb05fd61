package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// modePrefix is what the names of modes begin with in the API.
const modePrefix = "ISOLATION_MODE_"

// modes are the names of the isolation modes that the API knows.
func modes() []string {
	var names []string
	for number, name := range tenancyv1.IsolationMode_name {
		if number != 0 {
			names = append(names, strings.ToLower(strings.TrimPrefix(name, modePrefix)))
		}
	}
	slices.Sort(names)
	return names
}

func modeName(mode tenancyv1.IsolationMode) string {
	return strings.ToLower(strings.TrimPrefix(mode.String(), modePrefix))
}

func (a *app) modeCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "mode", Short: "What separates tenants",
		Args: cobra.NoArgs, RunE: needsVerb,
	}
	get := &cobra.Command{
		Use: "get", Short: "Show the isolation mode", Args: cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := addFormatFlag(get)
	get.RunE = a.ask(func(ctx context.Context, s *session, command *cobra.Command, _ []string) error {
		answer, err := s.isolation.GetIsolation(ctx, &tenancyv1.GetIsolationRequest{})
		if err != nil {
			return err
		}
		if *f == "table" {
			_, err := fmt.Fprintln(command.OutOrStdout(), modeName(answer.GetIsolation().GetMode()))
			return err
		}
		return show(command.OutOrStdout(), *f, []*tenancyv1.Isolation{answer.GetIsolation()}, []column[*tenancyv1.Isolation]{
			{title: "MODE", cell: func(i *tenancyv1.Isolation) string { return modeName(i.GetMode()) }},
			{title: "REVISION", cell: func(i *tenancyv1.Isolation) string { return fmt.Sprint(i.GetRevision()) }},
		})
	})
	group.AddCommand(get, a.modeSetCommand())
	return group
}

func (a *app) modeSetCommand() *cobra.Command {
	var wait bool
	set := &cobra.Command{
		Use:   "set " + strings.Join(modes(), "|"),
		Short: "Change the isolation mode of the running cluster",
		Args:  cobra.ExactArgs(1),
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			number, known := tenancyv1.IsolationMode_value[modePrefix+strings.ToUpper(args[0])]
			if !known || number == 0 {
				return fmt.Errorf("%q is not an isolation mode: %s", args[0], strings.Join(modes(), ", "))
			}
			answer, err := s.isolation.SetIsolation(ctx, &tenancyv1.SetIsolationRequest{Mode: tenancyv1.IsolationMode(number)})
			if err != nil {
				return err
			}
			return s.announce(ctx, command, wait, []string{"isolation mode is " + args[0]},
				[]object{{kind: "isolation", name: "cluster", revision: answer.GetIsolation().GetRevision()}})
		}),
		ValidArgsFunction: cobra.FixedCompletions(modes(), cobra.ShellCompDirectiveNoFileComp),
	}
	addWaitFlag(set, &wait)
	return set
}
