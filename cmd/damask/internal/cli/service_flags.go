package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/damask-sdn/damask/cmd/damask/internal/servicefile"
)

// serviceFlags describe a service on a command line: what is asked for every day.
// A file has all the rest.
type serviceFlags struct {
	ports, selector, externalIPs, annotations []string
	wish                                      servicefile.Service
}

// add adds the flags to a command.
func (f *serviceFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringArrayVar(&f.ports, "port", nil,
		"a port, [NAME=]PORT[:TARGET[:NODEPORT]][/tcp|udp|sctp], such as 80:8080 or dns=53/udp; may be repeated")
	flags.StringSliceVar(&f.selector, "selector", nil, "labels of the pods behind it, KEY=VALUE; may be repeated. Without, endpoint slices say")
	flags.StringVar(&f.wish.Type, "type", "", "ClusterIP (default), NodePort, LoadBalancer or ExternalName")
	flags.StringVar(&f.wish.ClusterIP, "cluster-ip", "", "the address that it should have; None: headless")
	flags.StringSliceVar(&f.externalIPs, "external-ip", nil, "an address that nodes accept for it besides; may be repeated")
	flags.StringVar(&f.wish.LoadBalancerIP, "load-balancer-ip", "", "the load-balancer address that it should have")
	flags.StringVar(&f.wish.SessionAffinity, "session-affinity", "", "None (default) or ClientIP")
	flags.StringVar(&f.wish.InternalTrafficPolicy, "internal-traffic-policy", "", "Cluster (default) or Local")
	flags.StringVar(&f.wish.ExternalTrafficPolicy, "external-traffic-policy", "", "Cluster (default) or Local")
	flags.StringVar(&f.wish.ExternalName, "external-name", "", "what type ExternalName stands for")
	flags.StringArrayVar(&f.annotations, "annotation", nil, "an annotation KEY=VALUE; may be repeated")
	for name, words := range map[string][]string{
		"type": {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"}, "session-affinity": {"None", "ClientIP"},
		"internal-traffic-policy": {"Cluster", "Local"}, "external-traffic-policy": {"Cluster", "Local"},
	} {
		_ = command.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // added above
	}
}

// names are the names of the flags.
func (f *serviceFlags) names() []string {
	return []string{
		"port", "selector", "type", "cluster-ip", "external-ip", "load-balancer-ip", "session-affinity",
		"internal-traffic-policy", "external-traffic-policy", "external-name", "annotation",
	}
}

// service is the service that the flags describe. The error has everything that is
// wrong with them.
func (f *serviceFlags) service(full string) (servicefile.Service, error) {
	s := f.wish
	var problems []error
	var found bool
	if s.Namespace, s.Name, found = strings.Cut(full, "/"); !found {
		return s, fmt.Errorf("%q does not name a service: NAMESPACE/NAME", full)
	}
	var err error
	if s.Selector, err = parseLabels(f.selector); err != nil {
		problems = append(problems, err)
	}
	if s.Annotations, err = parseLabels(f.annotations); err != nil {
		problems = append(problems, err)
	}
	s.ExternalIPs = f.externalIPs
	for _, text := range f.ports {
		port, err := parsePort(text)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		s.Ports = append(s.Ports, port)
	}
	if len(problems) > 0 {
		return s, errors.Join(problems...)
	}
	return s, s.Valid()
}

// parsePort reads "[NAME=]PORT[:TARGET[:NODEPORT]][/PROTOCOL]".
func parsePort(text string) (servicefile.Port, error) {
	var p servicefile.Port
	rest := text
	if name, after, found := strings.Cut(rest, "="); found {
		p.Name, rest = name, after
	}
	rest, protocol, _ := strings.Cut(rest, "/")
	p.Protocol = strings.ToUpper(protocol)
	parts := strings.Split(rest, ":")
	wrong := fmt.Errorf("port %q is not [NAME=]PORT[:TARGET[:NODEPORT]][/PROTOCOL]", text)
	if len(parts) > 3 {
		return p, wrong
	}
	number, err := strconv.ParseUint(parts[0], 10, 32)
	if err != nil {
		return p, wrong
	}
	p.Port = uint32(number)
	if len(parts) > 1 {
		p.TargetPort = servicefile.NumberOrName(parts[1])
	}
	if len(parts) > 2 {
		if number, err = strconv.ParseUint(parts[2], 10, 32); err != nil {
			return p, wrong
		}
		p.NodePort = uint32(number)
	}
	return p, nil
}
