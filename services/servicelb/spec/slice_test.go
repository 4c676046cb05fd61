package spec_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/internal/serviceview"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

func TestWhatASliceMayBe(t *testing.T) {
	many := func(n int) []string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf("z%d", i))
		}
		return list
	}
	endpoint := func(change func(*servicelbv1.Endpoint)) func(*servicelbv1.EndpointSlice) {
		return func(s *servicelbv1.EndpointSlice) { change(s.Endpoints[0]) }
	}
	cases := []struct {
		name   string
		change func(*servicelbv1.EndpointSlice)
		want   []string
	}{
		{"a plain one", func(*servicelbv1.EndpointSlice) {}, nil},
		{"an empty one", func(s *servicelbv1.EndpointSlice) { s.Ports, s.Endpoints = nil, nil }, nil},
		{"no names", func(s *servicelbv1.EndpointSlice) { s.Namespace, s.Name, s.ServiceName = "", "", "" }, []string{"namespace", "name", "service_name"}},
		{"IPv6", func(s *servicelbv1.EndpointSlice) { s.AddressType = 2 }, []string{"address_type"}},
		{"an unknown family", func(s *servicelbv1.EndpointSlice) { s.AddressType = 3 }, []string{"address_type"}},
		{"a manager that is none", func(s *servicelbv1.EndpointSlice) { s.ManagedBy = "A b" }, []string{"managed_by"}},
		{"ports of one name", func(s *servicelbv1.EndpointSlice) {
			s.Ports = append(s.Ports, &servicelbv1.EndpointPort{Port: 81})
		}, []string{"ports[1].name"}},
		{"ports that are none", func(s *servicelbv1.EndpointSlice) {
			s.Ports[0] = &servicelbv1.EndpointPort{Name: "A", Protocol: 9, AppProtocol: "a b"}
		}, []string{"ports[0].name", "ports[0].protocol", "ports[0].port", "ports[0].app_protocol"}},
		{"an endpoint without address", endpoint(func(e *servicelbv1.Endpoint) { e.Addresses = nil }), []string{"endpoints[0].addresses"}},
		{"addresses that are none", endpoint(func(e *servicelbv1.Endpoint) { e.Addresses = []string{"x", "fd00::1", "127.0.0.1"} }),
			[]string{"endpoints[0].addresses[0]", "endpoints[0].addresses[1]", "endpoints[0].addresses[2]"}},
		{"names that are none", endpoint(func(e *servicelbv1.Endpoint) { e.Hostname, e.NodeName, e.Zone = "a.b", "A", "a b" }),
			[]string{"endpoints[0].hostname", "endpoints[0].node_name", "endpoints[0].zone"}},
		{"hints", endpoint(func(e *servicelbv1.Endpoint) {
			e.Hints = &servicelbv1.EndpointHints{ForZones: many(8), ForNodes: many(8)}
		}), nil},
		{"too many hints", endpoint(func(e *servicelbv1.Endpoint) { e.Hints = &servicelbv1.EndpointHints{ForZones: many(9)} }), []string{"endpoints[0].hints"}},
		{"hints that are none", endpoint(func(e *servicelbv1.Endpoint) {
			e.Hints = &servicelbv1.EndpointHints{ForZones: []string{"", "a b"}, ForNodes: []string{"A"}}
		}), []string{"endpoints[0].hints.for_zones[0]", "endpoints[0].hints.for_zones[1]", "endpoints[0].hints.for_nodes[0]"}},
		{"too many endpoints", func(s *servicelbv1.EndpointSlice) {
			s.Endpoints = slices.Repeat(s.Endpoints, 1001)
		}, []string{"endpoints"}},
		{"too many bytes", func(s *servicelbv1.EndpointSlice) {
			s.Endpoints[0].TargetRef = &servicelbv1.TargetReference{Uid: strings.Repeat("x", 1<<20)}
		}, []string{""}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := &servicelbv1.EndpointSlice{
				Namespace: "shop", Name: "web-1", ServiceName: "web", Ports: []*servicelbv1.EndpointPort{{Port: 80}},
				Endpoints: []*servicelbv1.Endpoint{{Addresses: []string{"10.128.0.1"}, NodeName: "n1.example.com", Zone: "z1", Hostname: "web-0"}},
			}
			c.change(s)
			var v rpcerr.Violations
			spec.CheckSlice(spec.SliceDefaults(s), &v)
			err := v.Err("test")
			var got []string
			for _, violation := range rpcerr.List(err) {
				got = append(got, strings.TrimPrefix(strings.TrimPrefix(violation.Field, "endpoint_slice"), "."))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("violations of %v, want %v: %v", got, c.want, err)
			}
		})
	}
}

func FuzzCheckSlice(f *testing.F) {
	for _, s := range []*servicelbv1.EndpointSlice{
		{Namespace: "shop", Name: "web-1", ServiceName: "web", Ports: []*servicelbv1.EndpointPort{{Port: 80}}, Endpoints: []*servicelbv1.Endpoint{{Addresses: []string{"10.128.0.1"}}}},
		{Endpoints: []*servicelbv1.Endpoint{{Addresses: []string{"::"}, Hints: &servicelbv1.EndpointHints{ForZones: []string{""}}}}},
	} {
		data, err := proto.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &servicelbv1.EndpointSlice{}
		if proto.Unmarshal(data, s) != nil {
			return
		}
		wish := spec.SliceDefaults(s)
		var v rpcerr.Violations
		spec.CheckSlice(wish, &v)
		if !v.Empty() {
			return
		}
		// What is valid can be used: every endpoint becomes a backend.
		service := spec.Defaults(web(func(s *servicelbv1.Service) { s.ClusterIps = []string{"172.30.0.1"} }))
		for _, p := range wish.GetPorts() {
			service.Ports[0].Name, service.Ports[0].Protocol = p.GetName(), p.GetProtocol()
			view, err := serviceview.Compute(service, []*servicelbv1.EndpointSlice{wish}, serviceview.Node{})
			if err != nil {
				t.Errorf("compute: %v", err)
			}
			distinct := map[string]bool{}
			for _, e := range wish.GetEndpoints() {
				if e.GetConditions() == nil {
					distinct[e.GetAddresses()[0]] = true
				}
			}
			if len(view.Ports[0].Internal) < min(1, len(distinct)) {
				t.Errorf("%v has no backends", wish)
			}
		}
	})
}
