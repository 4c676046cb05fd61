package cli

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// shownEndpoints is how many endpoints of a service are named; -o wide names all.
const shownEndpoints = 8

// endpointsRow is a service with what is behind it.
type endpointsRow struct {
	namespace, name string
	endpoints       []string
	nodes           []string
}

func endpointsColumns() []column[endpointsRow] {
	return []column[endpointsRow]{
		{title: "NAMESPACE", cell: func(r endpointsRow) string { return r.namespace }},
		{title: "NAME", cell: func(r endpointsRow) string { return r.name }},
		{title: "ENDPOINTS", cell: func(r endpointsRow) string {
			if more := len(r.endpoints) - shownEndpoints; more > 0 {
				return fmt.Sprintf("%s + %d more...", strings.Join(r.endpoints[:shownEndpoints], ","), more)
			}
			return orNone(strings.Join(r.endpoints, ","))
		}},
	}
}

func wideEndpointsColumns() []column[endpointsRow] {
	columns := endpointsColumns()
	columns[2].cell = func(r endpointsRow) string { return orNone(strings.Join(r.endpoints, ",")) }
	return append(columns, column[endpointsRow]{title: "NODES", cell: func(r endpointsRow) string { return orNone(strings.Join(r.nodes, ",")) }})
}

// getEndpointsCommand shows what is behind services. As json and yaml it shows
// EndpointSlices, which is how endpoints are kept.
func (a *app) getEndpointsCommand(f *format) *cobra.Command {
	var namespace string
	command := &cobra.Command{
		Use:     "endpoints [NAMESPACE/NAME | NAME]",
		Aliases: []string{"ep", "endpointslices"},
		Short:   "Show what is behind the services",
		Args:    cobra.MaximumNArgs(1),
		RunE: a.ask(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			within, name, err := namespaceAndName(namespace, args)
			if err != nil {
				return err
			}
			slices, err := s.slicesNamed(ctx, within, name)
			if err != nil {
				return err
			}
			switch *f {
			case "json", "yaml":
				return show(command.OutOrStdout(), *f, slices, nil)
			}
			services, err := s.serviceList(ctx, within)
			if err != nil {
				return err
			}
			rows := endpointsRows(services, slices, name)
			if name != "" && len(rows) == 0 {
				return fmt.Errorf("there is no service named %q", args[0])
			}
			if *f == "wide" {
				return table(command.OutOrStdout(), true, rows, wideEndpointsColumns())
			}
			return table(command.OutOrStdout(), false, rows, endpointsColumns())
		}),
		ValidArgsFunction: a.complete(1, serviceNames),
	}
	a.addNamespaceFlag(command, &namespace)
	return command
}

// slicesNamed answers the slices of services of a name, of all when it is empty.
func (s *session) slicesNamed(ctx context.Context, namespace, service string) ([]*servicelbv1.EndpointSlice, error) {
	if namespace != "" {
		return s.endpointSlices(ctx, namespace, service)
	}
	all, err := s.endpointSlices(ctx, "", "")
	return slices.DeleteFunc(all, func(s *servicelbv1.EndpointSlice) bool {
		return service != "" && s.GetServiceName() != service
	}), err
}

// endpointsRows puts slices together by service. A service without slices has a
// row too, and so have slices without service.
func endpointsRows(services []*servicelbv1.Service, list []*servicelbv1.EndpointSlice, name string) []endpointsRow {
	rows := map[string]*endpointsRow{}
	row := func(namespace, service string) *endpointsRow {
		full := namespace + "/" + service
		if rows[full] == nil {
			rows[full] = &endpointsRow{namespace: namespace, name: service}
		}
		return rows[full]
	}
	for _, s := range services {
		if name == "" || s.GetName() == name {
			row(s.GetNamespace(), s.GetName())
		}
	}
	for _, s := range list {
		r := row(s.GetNamespace(), s.GetServiceName())
		for _, e := range s.GetEndpoints() {
			r.endpoints = append(r.endpoints, endpointTexts(e, s.GetPorts())...)
			if n := e.GetNodeName(); n != "" && !slices.Contains(r.nodes, n) {
				r.nodes = append(r.nodes, n)
			}
		}
	}
	var sorted []endpointsRow
	for _, r := range rows {
		sorted = append(sorted, *r)
	}
	slices.SortFunc(sorted, func(a, b endpointsRow) int {
		return strings.Compare(a.namespace+"/"+a.name, b.namespace+"/"+b.name)
	})
	return sorted
}

// endpointTexts prints an endpoint's ports as "10.128.0.2:8080", with its state
// when it does not just take connections.
func endpointTexts(e *servicelbv1.Endpoint, ports []*servicelbv1.EndpointPort) []string {
	var texts []string
	for _, p := range ports {
		text := net.JoinHostPort(e.GetAddresses()[0], strconv.FormatUint(uint64(p.GetPort()), 10))
		texts = append(texts, text+endpointState(e.GetConditions()))
	}
	return texts
}

func endpointState(c *servicelbv1.EndpointConditions) string {
	ready := c == nil || c.Ready == nil || c.GetReady()
	serving := c == nil || c.Serving == nil && ready || c.GetServing()
	switch {
	case c.GetTerminating() && serving:
		return "(terminating)"
	case c.GetTerminating():
		return "(terminating, not serving)"
	case !ready:
		return "(not ready)"
	}
	return ""
}
