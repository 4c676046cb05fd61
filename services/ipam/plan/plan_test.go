package plan_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam/plan"
)

// usual is OpenShift's default plan, changed by edit.
func usual(edit func(*ipamv1.ClusterNetwork)) *ipamv1.ClusterNetwork {
	m := &ipamv1.ClusterNetwork{
		Networks:        []*ipamv1.ClusterNetworkEntry{{Cidr: "10.128.0.0/14", HostSubnetLength: 9}},
		ServiceNetworks: []string{"172.30.0.0/16"},
	}
	if edit != nil {
		edit(m)
	}
	return m
}

func parse(m *ipamv1.ClusterNetwork) (plan.Plan, []string) {
	var problems []string
	p := plan.Parse(m, func(field, format string, args ...any) {
		problems = append(problems, field+": "+fmt.Sprintf(format, args...))
	})
	return p, problems
}

func must(t *testing.T, m *ipamv1.ClusterNetwork) plan.Plan {
	t.Helper()
	p, problems := parse(m)
	if problems != nil {
		t.Fatalf("%v: %v", m, problems)
	}
	return p
}

func TestDefaultsAreFilledIn(t *testing.T) {
	vxlan, geneve, gre := ipamv1.TunnelType_TUNNEL_TYPE_VXLAN, ipamv1.TunnelType_TUNNEL_TYPE_GENEVE, ipamv1.TunnelType_TUNNEL_TYPE_GRE
	for _, tc := range []struct{ in, want *ipamv1.Tunnel }{
		{nil, &ipamv1.Tunnel{Type: vxlan, Port: 4789}},
		{&ipamv1.Tunnel{Port: 4790}, &ipamv1.Tunnel{Type: vxlan, Port: 4790}},
		{&ipamv1.Tunnel{Type: geneve}, &ipamv1.Tunnel{Type: geneve, Port: 6081}},
		{&ipamv1.Tunnel{Type: gre}, &ipamv1.Tunnel{Type: gre}},
	} {
		got := must(t, usual(func(m *ipamv1.ClusterNetwork) { m.Tunnel = tc.in })).Message()
		want := usual(func(m *ipamv1.ClusterNetwork) { m.Name, m.Tunnel = "default", tc.want })
		if !proto.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

func TestEverythingThatIsWrongWithAPlanIsReported(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   *ipamv1.ClusterNetwork
		want []string
	}{
		{"nothing given", nil, []string{"networks: at least one is required", "service_networks: at least one is required"}},
		{"all at once", &ipamv1.ClusterNetwork{
			Name: "other",
			Networks: []*ipamv1.ClusterNetworkEntry{
				{Cidr: "10.128.0.1/14", HostSubnetLength: 9}, {HostSubnetLength: 1}, {Cidr: "fd00::/48", HostSubnetLength: 31},
				{Cidr: "10.0.0.0/24", HostSubnetLength: 9}, {Cidr: "ten", HostSubnetLength: 9}, {Cidr: "127.0.0.0/16", HostSubnetLength: 8},
			},
			ServiceNetworks: []string{"10.0.0.0/16", "010.0.0.0/8"},
			Tunnel:          &ipamv1.Tunnel{Type: ipamv1.TunnelType_TUNNEL_TYPE_GRE, Port: 4789},
			Mtu:             575,
		}, []string{
			`name: "other" must be "default": there is one plan`,
			"tunnel.port: 4789: GRE has no port",
			"mtu: 575 is not within 576 to 65535, nor 0",
			`networks[0].cidr: "10.128.0.1/14" is not canonical: "10.128.0.0/14" is`,
			"networks[1].cidr: required", "networks[1].host_subnet_length: 1 is not within 2 to 30",
			`networks[2].cidr: "fd00::/48" is not IPv4, the only family today`, "networks[2].host_subnet_length: 31 is not within 2 to 30",
			"networks[3].host_subnet_length: 9 host bits are more than the 8 of 10.0.0.0/24",
			`networks[4].cidr: "ten" is not a range such as 10.128.0.0/14`,
			`service_networks[1]: "010.0.0.0/8" is not a range such as 10.128.0.0/14`,
			"service_networks[0]: 10.0.0.0/16 overlaps 10.0.0.0/24 of networks[3].cidr",
			"networks[5].cidr: 127.0.0.0/16 overlaps 127.0.0.0/8, which is for loopback",
		}},
		{"tunnel port and type", usual(func(m *ipamv1.ClusterNetwork) { m.Tunnel = &ipamv1.Tunnel{Type: 9, Port: 65536} }), []string{
			"tunnel.type: 9 is no tunnel type", "tunnel.port: 65536 is not within 0 to 65535",
		}},
		{"the same range twice", usual(func(m *ipamv1.ClusterNetwork) { m.Networks = append(m.Networks, m.Networks[0]) }), []string{
			"networks[1].cidr: 10.128.0.0/14 overlaps 10.128.0.0/14 of networks[0].cidr",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, got := parse(tc.in); !slices.Equal(got, tc.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(tc.want, "\n  "))
			}
		})
	}
}

func TestWhatNodesUseCannotChange(t *testing.T) {
	two := func(m *ipamv1.ClusterNetwork) {
		m.Networks = append(m.Networks, &ipamv1.ClusterNetworkEntry{Cidr: "10.140.0.0/16", HostSubnetLength: 8})
	}
	nodes := []plan.Node{{Name: "n1", Subnets: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/23")}, HostIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}
	entry := func(cidr string, length uint32) func(*ipamv1.ClusterNetwork) {
		return func(m *ipamv1.ClusterNetwork) {
			m.Networks[0] = &ipamv1.ClusterNetworkEntry{Cidr: cidr, HostSubnetLength: length}
		}
	}
	for _, tc := range []struct {
		name           string
		old            func(*ipamv1.ClusterNetwork)
		next           func(*ipamv1.ClusterNetwork)
		nodes          []plan.Node
		inUse, overlap int
	}{
		{"nothing changes", nil, nil, nodes, 0, 0},
		{"a range is added", nil, two, nodes, 0, 0},
		{"a range without nodes goes", two, nil, nodes, 0, 0},
		{"a range grows", nil, entry("10.128.0.0/12", 9), nodes, 0, 0},
		{"a range shrinks, although its node would still fit", nil, entry("10.128.0.0/15", 9), nodes, 1, 0},
		{"a range shrinks without nodes", nil, entry("10.128.0.0/15", 9), nil, 0, 0},
		{"the length changes", nil, entry("10.128.0.0/14", 8), nodes, 1, 0},
		{"a range goes", nil, entry("10.132.0.0/14", 9), nodes, 1, 0},
		{"the tunnel and a range change", nil, func(m *ipamv1.ClusterNetwork) {
			entry("10.132.0.0/14", 9)(m)
			m.Tunnel = &ipamv1.Tunnel{Port: 1}
		}, nodes, 2, 0},
		{"the tunnel changes without nodes", nil, func(m *ipamv1.ClusterNetwork) { m.Tunnel = &ipamv1.Tunnel{Port: 1} }, nil, 0, 0},
		{"a new range has a node's address", nil, func(m *ipamv1.ClusterNetwork) {
			m.Networks = append(m.Networks, &ipamv1.ClusterNetworkEntry{Cidr: "192.0.2.0/24", HostSubnetLength: 4})
		}, nodes, 0, 1},
		{"a new service range has a node's address", nil, func(m *ipamv1.ClusterNetwork) {
			m.ServiceNetworks = append(m.ServiceNetworks, "192.0.0.0/16")
		}, nodes, 0, 1},
		{"the MTU and the services change", nil, func(m *ipamv1.ClusterNetwork) { m.Mtu, m.ServiceNetworks = 1400, []string{"172.31.0.0/16"} }, nodes, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := plan.Replace(must(t, usual(tc.old)), must(t, usual(tc.next)), tc.nodes)
			if len(o.InUse) != tc.inUse || len(o.Overlap) != tc.overlap {
				t.Errorf("got %q, want %d in use and %d overlaps", o, tc.inUse, tc.overlap)
			}
		})
	}
}
