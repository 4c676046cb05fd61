package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/damask-sdn/damask/cmd/damask/internal/servicefile"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// none is what kubectl prints where there is nothing.
const none = "<none>"

func serviceColumns() []column[*servicelbv1.Service] {
	type service = *servicelbv1.Service
	return []column[service]{
		{title: "NAMESPACE", cell: service.GetNamespace},
		{title: "NAME", cell: service.GetName},
		{title: "TYPE", cell: func(s service) string { return servicefile.Word(s.GetType()) }},
		{title: "CLUSTER-IP", cell: func(s service) string { return orNone(strings.Join(s.GetClusterIps(), ",")) }},
		{title: "EXTERNAL-IP", cell: externalIPs},
		{title: "PORT(S)", cell: servicePorts},
		{title: "SELECTOR", wide: true, cell: func(s service) string {
			if len(s.GetSelector()) == 0 {
				return none
			}
			return labels(s.GetSelector())
		}},
		{title: "REVISION", wide: true, cell: func(s service) string { return strconv.FormatUint(s.GetRevision(), 10) }},
	}
}

func orNone(text string) string {
	if text == "" {
		return none
	}
	return text
}

// externalIPs prints what leads to a service from outside, as kubectl does.
func externalIPs(s *servicelbv1.Service) string {
	switch s.GetType() {
	case servicelbv1.ServiceType_SERVICE_TYPE_EXTERNAL_NAME:
		return s.GetExternalName()
	case servicelbv1.ServiceType_SERVICE_TYPE_LOAD_BALANCER:
		all := append(slices.Clone(s.GetLoadBalancerIps()), s.GetExternalIps()...)
		if len(all) == 0 {
			return "<pending>"
		}
		return strings.Join(all, ",")
	}
	return orNone(strings.Join(s.GetExternalIps(), ","))
}

// servicePorts prints "80/TCP", or "80:30080/TCP" with a node port.
func servicePorts(s *servicelbv1.Service) string {
	var all []string
	for _, p := range s.GetPorts() {
		text := strconv.FormatUint(uint64(p.GetPort()), 10)
		if p.GetNodePort() != 0 {
			text += ":" + strconv.FormatUint(uint64(p.GetNodePort()), 10)
		}
		all = append(all, text+"/"+servicefile.Word(p.GetProtocol()))
	}
	return orNone(strings.Join(all, ","))
}

// getServicesCommand shows services: all, those of a namespace, or one.
func (a *app) getServicesCommand(f *format) *cobra.Command {
	var namespace string
	command := &cobra.Command{
		Use:     "services [NAMESPACE/NAME | NAME]",
		Aliases: []string{"service", "svc"},
		Short:   "Show the services and how they are reached",
		Args:    cobra.MaximumNArgs(1),
		RunE: a.ask(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			within, name, err := namespaceAndName(namespace, args)
			if err != nil {
				return err
			}
			services, err := s.servicesNamed(ctx, within, name)
			if err != nil {
				return err
			}
			return show(command.OutOrStdout(), *f, services, serviceColumns())
		}),
		ValidArgsFunction: a.complete(1, serviceNames),
	}
	a.addNamespaceFlag(command, &namespace)
	return command
}

// servicesNamed answers services, all of a namespace or of the cluster when the
// names are empty. That there is none of a name is an error.
func (s *session) servicesNamed(ctx context.Context, namespace, name string) ([]*servicelbv1.Service, error) {
	services, err := s.serviceList(ctx, namespace)
	if err != nil || name == "" {
		return services, err
	}
	services = slices.DeleteFunc(services, func(s *servicelbv1.Service) bool { return s.GetName() != name })
	if len(services) == 0 {
		if namespace != "" {
			name = namespace + "/" + name
		}
		return nil, fmt.Errorf("there is no service named %q", name)
	}
	return services, nil
}

// addNamespaceFlag adds -n to a command of objects that have a namespace.
func (a *app) addNamespaceFlag(command *cobra.Command, namespace *string) {
	command.Flags().StringVarP(namespace, "namespace", "n", "", "only those of this namespace")
	_ = command.RegisterFlagCompletionFunc("namespace", a.complete(-1, netNamespaces().names))
}

// serviceNames answers NAMESPACE/NAME of every service.
func serviceNames(ctx context.Context, s *session) ([]string, error) {
	services, err := s.serviceList(ctx, "")
	names := make([]string, len(services))
	for i, one := range services {
		names[i] = fullServiceName(one)
	}
	return names, err
}

func fullServiceName(s *servicelbv1.Service) string { return s.GetNamespace() + "/" + s.GetName() }
