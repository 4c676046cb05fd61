package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/cmd/damask/internal/servicefile"
	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// The kinds by which nodes know what these commands change.
const (
	serviceKind = "service"
	sliceKind   = "endpointslice"
)

func (a *app) serviceCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "service", Short: "Create, change and idle services",
		Args: cobra.NoArgs, RunE: needsVerb,
	}
	group.AddCommand(
		a.serviceCreateCommand(), a.serviceApplyCommand(), a.serviceDeleteCommand(), a.serviceWaitCommand(),
		a.serviceMarkCommand("idle", "Say that services have nothing behind them until somebody asks for them", idle),
		a.serviceMarkCommand("unidle", "Say that services are no longer idle", unidle),
	)
	return group
}

func (a *app) serviceCreateCommand() *cobra.Command {
	var flags serviceFlags
	var file string
	var wait bool
	command := &cobra.Command{
		Use:   "create NAMESPACE/NAME --port PORT | create -f FILE",
		Short: "Create services",
		Long: "Create a service, or those of a file with their endpoint slices. What a file is like\n" +
			"is said in examples/README.md: services and endpointSlices, as in a lab's topology.\n" +
			"Addresses and ports that are not wished for are given.",
		Args: cobra.MaximumNArgs(1),
		PreRunE: func(command *cobra.Command, args []string) error {
			if (file == "") == (len(args) == 0) {
				return errors.New("name a service, or a file by -f")
			}
			return nil
		},
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			document := &servicefile.Document{}
			var err error
			if file != "" {
				document, err = servicefile.Load(file)
			} else {
				document.Services = make([]servicefile.Service, 1)
				document.Services[0], err = flags.service(args[0])
			}
			if err != nil {
				return err
			}
			return s.write(ctx, command, document, wait, s.createService)
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags.add(command)
	command.Flags().StringVarP(&file, "file", "f", "", "a file of services and endpointSlices; - is standard input")
	for _, name := range flags.names() {
		command.MarkFlagsMutuallyExclusive("file", name)
	}
	addWaitFlag(command, &wait)
	return command
}

func (a *app) serviceApplyCommand() *cobra.Command {
	var file string
	var wait bool
	command := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create services, and make those that there are as the file says",
		Long: "Create services and endpoint slices, and make those that there are as the file\n" +
			"says. A service keeps the addresses and ports that the file does not name.",
		Args: cobra.NoArgs,
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, _ []string) error {
			document, err := servicefile.Load(file)
			if err != nil {
				return err
			}
			return s.write(ctx, command, document, wait, s.applyService)
		}),
	}
	command.Flags().StringVarP(&file, "file", "f", "", "a file of services and endpointSlices; - is standard input")
	_ = command.MarkFlagRequired("file") // the flag was added above
	addWaitFlag(command, &wait)
	return command
}

// write stores what is in a document, and waits for the nodes. One that is refused
// does not keep the others.
func (s *session) write(ctx context.Context, command *cobra.Command, document *servicefile.Document, wait bool,
	store func(context.Context, *servicelbv1.Service) (*servicelbv1.Service, string, error)) error {
	var written []object
	var told []string
	var problems []error
	for i := range document.Services {
		stored, done, err := store(ctx, document.Services[i].Message())
		if err != nil {
			problems = append(problems, fmt.Errorf("service %s: %w", document.Services[i].FullName(), explain(err)))
			continue
		}
		written = append(written, object{kind: serviceKind, name: fullServiceName(stored), revision: stored.GetRevision()})
		told = append(told, describeService(stored, done))
	}
	for i := range document.EndpointSlices {
		slice := &document.EndpointSlices[i]
		answer, err := s.slices.PutEndpointSlice(ctx, &servicelbv1.PutEndpointSliceRequest{EndpointSlice: slice.Message()})
		if err != nil {
			problems = append(problems, fmt.Errorf("endpoint slice %s: %w", slice.FullName(), explain(err)))
			continue
		}
		stored := answer.GetEndpointSlice()
		written = append(written, object{kind: sliceKind, name: slice.FullName(), revision: stored.GetRevision()})
		told = append(told, fmt.Sprintf("endpoint slice %s has %s", slice.FullName(), count(len(stored.GetEndpoints()), "endpoint")))
	}
	if len(written) > 0 {
		problems = append(problems, s.announce(ctx, command, wait, told, written))
	}
	return errors.Join(problems...)
}

// describeService says what was done with a service, and how it is reached.
func describeService(s *servicelbv1.Service, done string) string {
	text := fmt.Sprintf("service %s %s", fullServiceName(s), done)
	if ips := s.GetClusterIps(); len(ips) > 0 && ips[0] != "None" {
		text += " with " + strings.Join(append(ips, s.GetLoadBalancerIps()...), " and ")
	}
	for _, p := range s.GetPorts() {
		if p.GetNodePort() != 0 {
			text += fmt.Sprintf(", node port %d/%s", p.GetNodePort(), servicefile.Word(p.GetProtocol()))
		}
	}
	return text
}

func (s *session) createService(ctx context.Context, wish *servicelbv1.Service) (*servicelbv1.Service, string, error) {
	answer, err := s.services.CreateService(ctx, &servicelbv1.CreateServiceRequest{Service: wish})
	return answer.GetService(), "created", err
}

func (s *session) applyService(ctx context.Context, wish *servicelbv1.Service) (*servicelbv1.Service, string, error) {
	answer, err := s.services.UpdateService(ctx, &servicelbv1.UpdateServiceRequest{Service: wish})
	if status.Code(err) == codes.NotFound {
		return s.createService(ctx, wish)
	}
	return answer.GetService(), "stored", err
}

// eachNamed calls do for each NAMESPACE/NAME. One that fails does not keep the
// others.
func eachNamed(args []string, kind string, do func(namespace, name string) error) error {
	var problems []error
	for _, full := range args {
		namespace, name, found := strings.Cut(full, "/")
		if !found || namespace == "" || name == "" {
			problems = append(problems, fmt.Errorf("%q does not name one %s: NAMESPACE/NAME", full, kind))
			continue
		}
		problems = append(problems, do(namespace, name))
	}
	return errors.Join(problems...)
}

// idledAt is the annotation by which OpenShift says since when a service is idle.
const idledAt = "idling.alpha.openshift.io/idled-at"

func idle(s *servicelbv1.Service) {
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	if s.Annotations[idledAt] == "" { // since when it is idle is not changed by saying it again
		s.Annotations[idledAt] = time.Now().UTC().Format(time.RFC3339)
	}
}

func unidle(s *servicelbv1.Service) { delete(s.GetAnnotations(), idledAt) }

// serviceMarkCommand is a command that changes services as they are.
func (a *app) serviceMarkCommand(verb, short string, mark func(*servicelbv1.Service)) *cobra.Command {
	var wait bool
	command := &cobra.Command{
		Use:   verb + " NAMESPACE/NAME...",
		Short: short,
		Args:  cobra.MinimumNArgs(1),
		RunE: a.change(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			var marked []object
			var told []string
			problem := eachNamed(args, "service", func(namespace, name string) error {
				stored, err := s.markService(ctx, namespace, name, mark)
				if err != nil {
					return fmt.Errorf("%s/%s: %w", namespace, name, explain(err))
				}
				marked = append(marked, object{kind: serviceKind, name: fullServiceName(stored), revision: stored.GetRevision()})
				told = append(told, fmt.Sprintf("service %s/%s %sd", namespace, name, verb))
				return nil
			})
			if len(marked) > 0 {
				problem = errors.Join(problem, s.announce(ctx, command, wait, told, marked))
			}
			return problem
		}),
		ValidArgsFunction: a.complete(manyNames, serviceNames),
	}
	addWaitFlag(command, &wait)
	return command
}

// staleRevision is the reason of a change that somebody else was quicker than.
const staleRevision = "STALE_REVISION"

// markService changes a service as it is; if somebody else changes it at the same
// time, again.
func (s *session) markService(ctx context.Context, namespace, name string, mark func(*servicelbv1.Service)) (*servicelbv1.Service, error) {
	for {
		found, err := s.services.GetService(ctx, &servicelbv1.GetServiceRequest{Namespace: namespace, Name: name})
		if err != nil {
			return nil, err
		}
		mark(found.GetService())
		answer, err := s.services.UpdateService(ctx, &servicelbv1.UpdateServiceRequest{Service: found.GetService()})
		if rpcerr.Reason(err) != staleRevision {
			return answer.GetService(), err
		}
	}
}
