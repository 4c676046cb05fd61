package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

func (a *app) createCommand() *cobra.Command {
	create := &cobra.Command{
		Use: "create RESOURCE NAME", Short: "Create an object",
		Args: cobra.NoArgs, RunE: needsVerb,
	}
	var netid uint32
	var pairs []string
	namespace := &cobra.Command{
		Use:     "netnamespace NAME",
		Aliases: []string{"netns"},
		Short:   "Give a namespace a VNID",
		Long: "Give a namespace a VNID of its own, or the wished one if it is free.\n" +
			"0 is global and 1 is the control plane's; both may be shared.",
		Args: cobra.ExactArgs(1),
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			r := &tenancyv1.CreateNetNamespaceRequest{Name: args[0]}
			if command.Flags().Changed("netid") {
				r.Netid = &netid
			}
			var err error
			if r.Labels, err = parseLabels(pairs); err != nil {
				return err
			}
			answer, err := s.namespaces.CreateNetNamespace(ctx, r)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(command.OutOrStdout(), "netnamespace %s has VNID %d\n", args[0], answer.GetNetNamespace().GetNetid())
			return err
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	namespace.Flags().Uint32Var(&netid, "netid", 0, "the VNID that it should have: 0, 1, or 10 to 16777215")
	namespace.Flags().StringArrayVar(&pairs, "label", nil, "a label KEY=VALUE; may be repeated")
	create.AddCommand(namespace)
	return create
}

// parseLabels reads KEY=VALUE texts, and names each that is none.
func parseLabels(pairs []string) (map[string]string, error) {
	labels := make(map[string]string, len(pairs))
	var problems []error
	for _, pair := range pairs {
		key, value, found := strings.Cut(pair, "=")
		if !found {
			problems = append(problems, fmt.Errorf("label %q is not KEY=VALUE", pair))
			continue
		}
		if old, twice := labels[key]; twice && old != value {
			problems = append(problems, fmt.Errorf("label %q is given twice", key))
		}
		labels[key] = value
	}
	return labels, errors.Join(problems...)
}
