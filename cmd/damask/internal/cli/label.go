package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

func (a *app) labelCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "label", Short: "Change labels of pods and namespaces",
		Args: cobra.NoArgs, RunE: needsVerb,
	}
	group.AddCommand(a.labelPodCommand(), a.labelNamespaceCommand())
	return group
}

func (a *app) labelPodCommand() *cobra.Command {
	var wait bool
	command := &cobra.Command{
		Use:   "pod NAMESPACE/NAME KEY=VALUE... KEY-...",
		Short: "Change labels of a pod; KEY- removes one",
		Args:  cobra.MinimumNArgs(2),
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			namespace, name, found := strings.Cut(args[0], "/")
			if !found {
				return fmt.Errorf("%q is not NAMESPACE/NAME", args[0])
			}
			set, remove, err := labelChanges(args[1:])
			if err != nil {
				return err
			}
			answer, err := s.pods.UpdatePodLabels(ctx, &tenancyv1.UpdatePodLabelsRequest{Namespace: namespace, Name: name, Set: set, Remove: remove})
			if err != nil {
				return err
			}
			pod := answer.GetPod()
			return s.announceResolved(ctx, command, wait, []string{fmt.Sprintf("pod %s has labels %s", args[0], labels(pod.GetLabels()))}, pod.GetRevision())
		}),
		ValidArgsFunction: a.complete(1, func(ctx context.Context, s *session) ([]string, error) {
			pods, err := s.podList(ctx, "", "")
			names := make([]string, len(pods))
			for i, p := range pods {
				names[i] = p.GetNamespace() + "/" + p.GetName()
			}
			return names, err
		}),
	}
	addWaitFlag(command, &wait)
	return command
}

func (a *app) labelNamespaceCommand() *cobra.Command {
	var wait bool
	command := &cobra.Command{
		Use:     "namespace NAME KEY=VALUE... KEY-...",
		Aliases: []string{"netnamespace", "netns", "ns"},
		Short:   "Change labels of a namespace; KEY- removes one",
		Args:    cobra.MinimumNArgs(2),
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			set, remove, err := labelChanges(args[1:])
			if err != nil {
				return err
			}
			answer, err := s.namespaces.UpdateNetNamespaceLabels(ctx, &tenancyv1.UpdateNetNamespaceLabelsRequest{Name: args[0], Set: set, Remove: remove})
			if err != nil {
				return err
			}
			ns := answer.GetNetNamespace()
			return s.announceResolved(ctx, command, wait, []string{fmt.Sprintf("namespace %s has labels %s", args[0], labels(ns.GetLabels()))},
				ns.GetRevision(), object{kind: "netnamespace", name: args[0], revision: ns.GetRevision()})
		}),
		ValidArgsFunction: a.complete(1, netNamespaces().names),
	}
	addWaitFlag(command, &wait)
	return command
}

// labelChanges reads "KEY=VALUE" and "KEY-".
func labelChanges(args []string) (set map[string]string, remove []string, err error) {
	var pairs []string
	var problems []error
	for _, arg := range args {
		key, minus := strings.CutSuffix(arg, "-")
		switch {
		case strings.Contains(arg, "="):
			pairs = append(pairs, arg)
		case minus && key != "":
			remove = append(remove, key)
		default:
			problems = append(problems, fmt.Errorf("%q is neither KEY=VALUE nor KEY-", arg))
		}
	}
	set, err = parseLabels(pairs)
	return set, remove, errors.Join(append(problems, err)...)
}
