package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

func (a *app) serviceDeleteCommand() *cobra.Command {
	command := a.goneCommand(serviceKind, "service", func(ctx context.Context, s *session, namespace, name string) (uint64, error) {
		found, err := s.services.GetService(ctx, &servicelbv1.GetServiceRequest{Namespace: namespace, Name: name})
		if err != nil && status.Code(err) != codes.NotFound {
			return 0, err
		}
		_, err = s.services.DeleteService(ctx, &servicelbv1.DeleteServiceRequest{Namespace: namespace, Name: name})
		return found.GetService().GetRevision(), err
	})
	command.Use, command.Short = "delete NAMESPACE/NAME...", "Delete services with their endpoints, and free their addresses and ports"
	command.ValidArgsFunction = a.complete(manyNames, serviceNames)
	return command
}

func (a *app) deleteEndpointSliceCommand() *cobra.Command {
	command := a.goneCommand(sliceKind, "endpoint slice", func(ctx context.Context, s *session, namespace, name string) (uint64, error) {
		all, err := s.endpointSlices(ctx, namespace, "")
		if err != nil {
			return 0, err
		}
		revision := uint64(0)
		for _, slice := range all {
			if slice.GetName() == name {
				revision = slice.GetRevision()
			}
		}
		_, err = s.slices.DeleteEndpointSlice(ctx, &servicelbv1.DeleteEndpointSliceRequest{Namespace: namespace, Name: name})
		return revision, err
	})
	command.Use, command.Short = "endpointslice NAMESPACE/NAME...", "Delete endpoint slices"
	command.ValidArgsFunction = a.complete(manyNames, func(ctx context.Context, s *session) ([]string, error) {
		all, err := s.endpointSlices(ctx, "", "")
		names := make([]string, len(all))
		for i, slice := range all {
			names[i] = slice.GetNamespace() + "/" + slice.GetName()
		}
		return names, err
	})
	return command
}

// goneCommand is a command that deletes objects of a kind and waits for the nodes.
// remove answers the revision that an object had; 0 if there was none.
func (a *app) goneCommand(kind, words string, remove func(ctx context.Context, s *session, namespace, name string) (uint64, error)) *cobra.Command {
	var wait bool
	command := &cobra.Command{
		Args: cobra.MinimumNArgs(1),
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			var gone []object
			var told []string
			problem := eachNamed(args, words, func(namespace, name string) error {
				revision, err := remove(ctx, s, namespace, name)
				if err != nil {
					return explain(err)
				}
				// A node that has taken over something later than the object's last
				// change, and knows no such object, has taken it out.
				if revision != 0 {
					gone = append(gone, object{kind: kind, name: namespace + "/" + name, revision: revision + 1})
				}
				told = append(told, fmt.Sprintf("%s %s/%s deleted", words, namespace, name))
				return nil
			})
			if len(told) > 0 {
				problem = errors.Join(problem, s.announce(ctx, command, wait, told, gone))
			}
			return problem
		}),
	}
	addWaitFlag(command, &wait)
	return command
}
