package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

func (a *app) podNetworkCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "pod-network", Short: "Say which namespaces may talk to each other",
		Args: cobra.NoArgs, RunE: needsVerb,
	}
	var target string
	join := a.moveCommand("join-projects --to TARGET NAME...", "let namespaces share TARGET's VNID",
		func(ctx context.Context, s *session, name string) (*tenancyv1.NetNamespace, error) {
			answer, err := s.namespaces.JoinNetNamespace(ctx, &tenancyv1.JoinNetNamespaceRequest{Name: name, Target: target})
			return answer.GetNetNamespace(), err
		})
	join.Flags().StringVar(&target, "to", "", "the namespace whose VNID the others take")
	_ = join.MarkFlagRequired("to")
	_ = join.RegisterFlagCompletionFunc("to", a.complete(-1, netNamespaces().names))
	group.AddCommand(
		join,
		a.moveCommand("isolate-projects NAME...", "give each namespace a VNID of its own",
			func(ctx context.Context, s *session, name string) (*tenancyv1.NetNamespace, error) {
				answer, err := s.namespaces.IsolateNetNamespace(ctx, &tenancyv1.IsolateNetNamespaceRequest{Name: name})
				return answer.GetNetNamespace(), err
			}),
		a.moveCommand("make-projects-global NAME...", "let namespaces reach all others, and be reached",
			func(ctx context.Context, s *session, name string) (*tenancyv1.NetNamespace, error) {
				answer, err := s.namespaces.MakeNetNamespaceGlobal(ctx, &tenancyv1.MakeNetNamespaceGlobalRequest{Name: name})
				return answer.GetNetNamespace(), err
			}),
	)
	return group
}

// changeNamespace is what a command does to each namespace that it is given.
type changeNamespace func(ctx context.Context, s *session, name string) (*tenancyv1.NetNamespace, error)

// moveCommand is a command that moves namespaces to other VNIDs and waits for
// the nodes.
func (a *app) moveCommand(use, short string, move changeNamespace) *cobra.Command {
	return a.namespacesCommand(use, short, move, func(ns *tenancyv1.NetNamespace) string {
		return fmt.Sprintf("has VNID %d", ns.GetNetid())
	})
}

// namespacesCommand is a command that changes namespaces, tells what each is then, and
// waits for the nodes.
func (a *app) namespacesCommand(use, short string, change changeNamespace, tell func(*tenancyv1.NetNamespace) string) *cobra.Command {
	var wait bool
	command := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.MinimumNArgs(1),
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			var changed []object
			var told []string
			var problems []error
			for _, name := range args {
				ns, err := change(ctx, s, name)
				if err != nil {
					problems = append(problems, fmt.Errorf("%s: %w", name, explain(err)))
					continue
				}
				changed = append(changed, object{kind: "netnamespace", name: name, revision: ns.GetRevision()})
				told = append(told, fmt.Sprintf("netnamespace %s %s", name, tell(ns)))
			}
			// What was changed is changed, whatever became of the others: wait for it.
			if len(changed) > 0 {
				problems = append(problems, s.announce(ctx, command, wait, told, changed))
			}
			return errors.Join(problems...)
		}),
		ValidArgsFunction: a.complete(manyNames, netNamespaces().names),
	}
	addWaitFlag(command, &wait)
	return command
}

func addWaitFlag(command *cobra.Command, wait *bool) {
	command.Flags().BoolVar(wait, "wait", true, "return when every node has the change in force")
}

// announce prints what changed, after it is in force everywhere if that is
// wanted.
func (s *session) announce(ctx context.Context, command *cobra.Command, wait bool, told []string, objects []object) error {
	end := "\n"
	var late error
	if wait {
		if s.nodesTime > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(command.Context(), s.nodesTime)
			defer cancel()
		}
		var nodes int
		nodes, late = s.inForce(ctx, objects)
		if late == nil {
			end = fmt.Sprintf(", in force on %s\n", count(nodes, "node"))
		}
	}
	_, err := fmt.Fprint(command.OutOrStdout(), strings.Join(told, end), end)
	return errors.Join(late, err)
}
