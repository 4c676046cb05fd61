package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/damask-sdn/damask/cmd/damask/internal/firewallfile"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// firewallKind is the kind by which nodes know the policies of a namespace, all together.
const firewallKind = "egressfirewall"

func (a *app) firewallCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "egressfirewall", Aliases: []string{"efw"}, Short: "Say where the pods of namespaces may go outside of the cluster",
		Args: cobra.NoArgs, RunE: needsVerb,
	}
	group.AddCommand(a.firewallApplyCommand(), a.firewallDeleteCommand())
	return group
}

func (a *app) firewallApplyCommand() *cobra.Command {
	var file string
	var wait bool
	command := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create egress firewalls, and make those that there are as the file says",
		Long: "Create egress firewalls, and make those that there are as the file says. What a\n" +
			"file is like is said in examples/README.md: egressFirewalls, as in a lab's topology.\n" +
			"Rules with names are in force when each name was looked up once, with or without\n" +
			"success; until then the earlier rules are.",
		Args: cobra.NoArgs,
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, _ []string) error {
			document, err := firewallfile.Load(file)
			if err != nil {
				return err
			}
			return s.applyFirewalls(ctx, command, document, wait)
		}),
	}
	command.Flags().StringVarP(&file, "file", "f", "", "a file of egressFirewalls; - is standard input")
	_ = command.MarkFlagRequired("file") // the flag was added above
	addWaitFlag(command, &wait)
	return command
}

// applyFirewalls stores what is in a document, and waits for the nodes. One that is
// refused does not keep the others.
func (s *session) applyFirewalls(ctx context.Context, command *cobra.Command, document *firewallfile.Document, wait bool) error {
	var told []string
	var problems []error
	revisions := map[string]uint64{}
	for i := range document.EgressFirewalls {
		f := &document.EgressFirewalls[i]
		answer, err := s.firewalls.PutEgressNetworkPolicy(ctx, &egressv1.PutEgressNetworkPolicyRequest{EgressNetworkPolicy: f.Message()})
		if err != nil {
			problems = append(problems, fmt.Errorf("egress firewall %s: %w", f.FullName(), explain(err)))
			continue
		}
		stored := answer.GetEgressNetworkPolicy()
		revisions[stored.GetNamespace()] = max(revisions[stored.GetNamespace()], stored.GetRevision())
		told = append(told, fmt.Sprintf("egress firewall %s has %s", f.FullName(), count(len(stored.GetRules()), "rule")))
	}
	if len(told) > 0 {
		problems = append(problems, s.announce(ctx, command, wait, told, firewallObjects(revisions)))
	}
	return errors.Join(problems...)
}

func firewallObjects(revisions map[string]uint64) []object {
	var objects []object
	for namespace, revision := range revisions {
		objects = append(objects, object{firewallKind, namespace, revision})
	}
	return objects
}

func (a *app) firewallDeleteCommand() *cobra.Command {
	var wait bool
	command := &cobra.Command{
		Use:   "delete NAMESPACE/NAME...",
		Short: "Delete egress firewalls",
		Args:  cobra.MinimumNArgs(1),
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			var told []string
			revisions := map[string]uint64{}
			problem := eachNamed(args, "egress firewall", func(namespace, name string) error {
				all, err := s.firewallPolicies(ctx, namespace)
				if err != nil {
					return explain(err)
				}
				for _, p := range all {
					if p.GetName() == name {
						// A node that has taken over something later has taken it out.
						revisions[namespace] = max(revisions[namespace], p.GetRevision()+1)
					}
				}
				if _, err := s.firewalls.DeleteEgressNetworkPolicy(ctx, &egressv1.DeleteEgressNetworkPolicyRequest{Namespace: namespace, Name: name}); err != nil {
					return explain(err)
				}
				told = append(told, fmt.Sprintf("egress firewall %s/%s deleted", namespace, name))
				return nil
			})
			if len(told) > 0 {
				problem = errors.Join(problem, s.announce(ctx, command, wait, told, firewallObjects(revisions)))
			}
			return problem
		}),
		ValidArgsFunction: a.complete(manyNames, func(ctx context.Context, s *session) ([]string, error) {
			all, err := s.firewallPolicies(ctx, "")
			names := make([]string, len(all))
			for i, p := range all {
				names[i] = p.GetNamespace() + "/" + p.GetName()
			}
			return names, err
		}),
	}
	addWaitFlag(command, &wait)
	return command
}

func (s *session) firewallPolicies(ctx context.Context, namespace string) ([]*egressv1.EgressNetworkPolicy, error) {
	return everyPage(func(token string) ([]*egressv1.EgressNetworkPolicy, string, error) {
		page, err := s.firewalls.ListEgressNetworkPolicies(ctx, &egressv1.ListEgressNetworkPoliciesRequest{Namespaces: oneOrAll(namespace), PageToken: token})
		return page.GetEgressNetworkPolicies(), page.GetNextPageToken(), err
	})
}

func (s *session) dnsNames(ctx context.Context) (map[string]*egressv1.DNSName, error) {
	all, err := everyPage(func(token string) ([]*egressv1.DNSName, string, error) {
		page, err := s.firewalls.ListDNSNames(ctx, &egressv1.ListDNSNamesRequest{PageToken: token})
		return page.GetDnsNames(), page.GetNextPageToken(), err
	})
	names := map[string]*egressv1.DNSName{}
	for _, name := range all {
		names[name.GetName()] = name
	}
	return names, err
}
