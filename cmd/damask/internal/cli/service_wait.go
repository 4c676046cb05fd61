package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// lookAgain is the pause between two looks at a service's endpoints, which follow
// pods in their own time.
const lookAgain = 50 * time.Millisecond

// serviceWaitCommand waits for what other commands do not wait for: endpoints that
// follow pods.
func (a *app) serviceWaitCommand() *cobra.Command {
	var endpoints int
	command := &cobra.Command{
		Use:   "wait NAMESPACE/NAME...",
		Short: "Return when every node has services and their endpoints, as they are now, in force",
		Args:  cobra.MinimumNArgs(1),
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			var waited []object
			var told []string
			problem := eachNamed(args, "service", func(namespace, name string) error {
				objects, ready, err := s.settled(ctx, namespace, name, endpoints)
				if err != nil {
					return fmt.Errorf("%s/%s: %w", namespace, name, explain(err))
				}
				waited = append(waited, objects...)
				told = append(told, fmt.Sprintf("service %s/%s has %s", namespace, name, count(ready, "ready endpoint")))
				return nil
			})
			if problem != nil {
				return problem
			}
			return s.announce(ctx, command, true, told, waited)
		}),
		ValidArgsFunction: a.complete(manyNames, serviceNames),
	}
	command.Flags().IntVar(&endpoints, "endpoints", -1, "first wait until each has just so many ready endpoints")
	return command
}

// settled answers a service and its slices as objects to wait for, and how many
// ready endpoints there are: as soon as they are as many as wanted, if that is not
// negative.
func (s *session) settled(ctx context.Context, namespace, name string, wanted int) ([]object, int, error) {
	var other error // the last look saw another number
	for {
		objects, ready, err := s.withSlices(ctx, namespace, name)
		switch {
		case err != nil && other != nil && ctx.Err() != nil:
			return nil, 0, other // the time ran out in the middle of a look
		case err != nil:
			return nil, 0, err
		case wanted < 0 || ready == wanted:
			return objects, ready, nil
		}
		other = fmt.Errorf("it has %s, not %d", count(ready, "ready endpoint"), wanted)
		select {
		case <-ctx.Done():
			return nil, 0, other
		case <-time.After(lookAgain):
		}
	}
}

// withSlices answers a service and its slices as they are now, and how many ready
// endpoints there are.
func (s *session) withSlices(ctx context.Context, namespace, name string) (objects []object, ready int, err error) {
	found, err := s.services.GetService(ctx, &servicelbv1.GetServiceRequest{Namespace: namespace, Name: name})
	if err != nil {
		return nil, 0, err
	}
	slices, err := s.endpointSlices(ctx, namespace, name)
	if err != nil {
		return nil, 0, err
	}
	objects = []object{{kind: serviceKind, name: namespace + "/" + name, revision: found.GetService().GetRevision()}}
	for _, slice := range slices {
		objects = append(objects, object{kind: sliceKind, name: slice.GetNamespace() + "/" + slice.GetName(), revision: slice.GetRevision()})
		for _, e := range slice.GetEndpoints() {
			if endpointState(e.GetConditions()) == "" {
				ready++
			}
		}
	}
	return objects, ready, nil
}
