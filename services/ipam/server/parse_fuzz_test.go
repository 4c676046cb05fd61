package server

import (
	"net/netip"
	"testing"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam/plan"
)

// FuzzARegistrationIsRefusedOrCanonical holds what the store relies on: names
// that keys can carry, and addresses whose text is the only one.
func FuzzARegistrationIsRefusedOrCanonical(f *testing.F) {
	f.Add("node.example.org", "uid", "192.0.2.1", "10.128.0.0/23")
	f.Add("N", "\x00", "::ffff:192.0.2.1", "10.128.0.0/023")
	f.Add("a.-b", "\xff", "192.0.2.1%eth0", "::ffff:10.128.0.0/119")
	f.Fuzz(func(t *testing.T, node, uid, ip, subnet string) {
		request := &ipamv1.AllocateHostSubnetRequest{Node: node, NodeUid: uid, HostIps: []string{ip}}
		if subnet != "" {
			request.RequestedSubnets = []string{subnet}
		}
		r, err := parseRegistration(request)
		if err != nil {
			return
		}
		if r.Node == "" || len(r.Node) > 253 || r.UID == "" {
			t.Errorf("accepted node %q, uid %q", r.Node, r.UID)
		}
		if len(r.HostIPs) != 1 || !r.HostIPs[0].Is4() || r.HostIPs[0].String() != ip {
			t.Errorf("accepted %q as %v", ip, r.HostIPs)
		}
		if subnet != "" && (len(r.Wish) != 1 || r.Wish[0].String() != subnet || r.Wish[0] != r.Wish[0].Masked()) {
			t.Errorf("accepted %q as %v", subnet, r.Wish)
		}
	})
}

// FuzzAPlanIsRefusedOrReadsBack holds that what is stored can be read again.
func FuzzAPlanIsRefusedOrReadsBack(f *testing.F) {
	f.Add("10.128.0.0/14", uint32(9), "172.30.0.0/16", int32(1), uint32(4789), uint32(1450))
	f.Add("0.0.0.0/0", uint32(30), "::/0", int32(3), uint32(0), uint32(0))
	f.Fuzz(func(t *testing.T, cidr string, length uint32, service string, tunnel int32, port, mtu uint32) {
		p, err := parsePlan(&ipamv1.ClusterNetwork{
			Networks:        []*ipamv1.ClusterNetworkEntry{{Cidr: cidr, HostSubnetLength: length}},
			ServiceNetworks: []string{service},
			Tunnel:          &ipamv1.Tunnel{Type: ipamv1.TunnelType(tunnel), Port: port},
			Mtu:             mtu,
		})
		if err != nil {
			return
		}
		again := plan.Parse(p.Message(), func(field, format string, args ...any) {
			t.Errorf("%s: "+format, append([]any{field}, args...)...)
		})
		if !again.Equal(p) {
			t.Errorf("%v reads back as %v", p, again)
		}
		r := p.Ranges[0]
		for _, s := range []netip.Prefix{r.At(0), r.At(r.Count() - 1)} {
			if !r.Has(s) {
				t.Errorf("%s has no %s", r, s)
			}
		}
	})
}
