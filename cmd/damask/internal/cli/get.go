package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
)

// resource is a kind of objects that get shows.
type resource[T proto.Message] struct {
	plural  string
	aliases []string
	short   string
	// fetch answers the objects; with a name only that one, or none.
	fetch func(ctx context.Context, s *session, name string) ([]T, error)
	name  func(T) string
	// fill adds what another service knows; nil: nothing. It is not an error that
	// that one is away: the rest is shown, and what is missing said.
	fill    func(ctx context.Context, s *session, items []T) error
	columns []column[T]
}

func (a *app) getCommand() *cobra.Command {
	get := &cobra.Command{
		Use:   "get RESOURCE [NAME]",
		Short: "Show what the cluster has",
		Args:  cobra.NoArgs,
		RunE:  needsVerb,
	}
	f := addFormatFlag(get)
	get.AddCommand(
		getResource(a, clusterNetworks(), f),
		getResource(a, hostSubnets(), f),
		getResource(a, netNamespaces(), f),
		a.getPodsCommand(f),
		getResource(a, nodes(), f),
		a.getServicesCommand(f),
		a.getEndpointsCommand(f),
		a.getEgressIPsCommand(f),
		a.getPoliciesCommand(f),
		getResource(a, egressNodes(), f),
		a.getEgressFirewallsCommand(f),
	)
	return get
}

// needsVerb answers for a command that does nothing by itself.
func needsVerb(command *cobra.Command, _ []string) error {
	return fmt.Errorf("say what to %s: see damask %s --help", command.Name(), command.Name())
}

// getResource is the command that shows one kind.
func getResource[T proto.Message](a *app, r resource[T], f *format) *cobra.Command {
	return &cobra.Command{
		Use:     r.plural + " [NAME]",
		Aliases: r.aliases,
		Short:   r.short,
		Args:    cobra.MaximumNArgs(1),
		RunE: a.ask(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			return r.show(ctx, s, command, *f, args)
		}),
		ValidArgsFunction: a.complete(1, func(ctx context.Context, s *session) ([]string, error) {
			return r.names(ctx, s)
		}),
	}
}

// fillTime bounds the wait for what another service adds.
const fillTime = 2 * time.Second

func (r resource[T]) show(ctx context.Context, s *session, command *cobra.Command, f format, args []string) error {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	items, err := r.fetch(ctx, s, name)
	if err != nil {
		return err
	}
	if name != "" && len(items) == 0 {
		return fmt.Errorf("there is no %s named %q", r.aliases[0], name)
	}
	if r.fill != nil {
		filling, cancel := context.WithTimeout(ctx, fillTime)
		defer cancel()
		if err := r.fill(filling, s, items); err != nil {
			fmt.Fprintf(command.ErrOrStderr(), "damask: egress IPs are not shown: %v\n", explain(err))
		}
	}
	return show(command.OutOrStdout(), f, items, r.columns)
}

func (r resource[T]) names(ctx context.Context, s *session) ([]string, error) {
	items, err := r.fetch(ctx, s, "")
	names := make([]string, len(items))
	for i, item := range items {
		names[i] = r.name(item)
	}
	return names, err
}

// only keeps the item of a name; all when the name is empty.
func only[T any](items []T, name string, nameOf func(T) string) []T {
	if name == "" {
		return items
	}
	for _, item := range items {
		if nameOf(item) == name {
			return []T{item}
		}
	}
	return nil
}
