package topology

import (
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/datapath"
)

// DefaultOutside is the name of the outside host of a topology that names none.
const DefaultOutside = "outside"

// defaults is what holds where the file says nothing.
func defaults() *Topology {
	return &Topology{
		Mode:            "multitenant",
		ClusterNetworks: []ClusterNetwork{{CIDR: netip.MustParsePrefix("10.128.0.0/14"), HostSubnetLength: 9}},
		ServiceNetwork:  netip.MustParsePrefix("172.30.0.0/16"),
		Underlay:        netip.MustParsePrefix("192.168.108.0/24"),
		Tunnel:          Tunnel{Type: "vxlan"},
		Datapath:        datapath.Default,
		Replicas:        Replicas{NATS: 1, IPAM: 1, Tenancy: 1, ServiceLB: 1, Egress: 1},
		ServiceEngine:   "iptables",
		LoadBalancerIPs: netip.MustParsePrefix("198.51.100.0/24"),
	}
}

// nodesFrom is where the addresses of nodes that ask for none begin, after the
// first of the underlay: the ten before are for hosts outside.
const nodesFrom = 10

// setAddresses gives addresses that nobody else has to the nodes that name none, to
// the default outside host and to the control host; egress IPs are not given away.
// It tells whether there were enough.
func (t *Topology) setAddresses() bool {
	free := newPool(t.Underlay)
	for _, node := range t.Nodes {
		free.take(node.IP)
	}
	for _, host := range t.Outside {
		free.take(host.IP)
	}
	for ip := range t.egressIPs() {
		free.take(ip)
	}
	if len(t.Outside) == 0 {
		t.Outside = []Outside{{Name: DefaultOutside, IP: free.next(0)}}
	}
	count := slices.Max([]int{t.Replicas.NATS, t.Replicas.IPAM, t.Replicas.Tenancy, t.Replicas.ServiceLB, t.Replicas.Egress})
	for len(t.Control) < count && !free.empty {
		t.Control = append(t.Control, free.last())
	}
	for i := range t.Nodes {
		if !t.Nodes[i].IP.IsValid() {
			t.Nodes[i].IP = free.next(nodesFrom)
		}
	}
	return !free.empty
}

// pool is the addresses of a network that nobody has.
type pool struct {
	network netip.Prefix
	taken   map[netip.Addr]bool
	// empty is set when an address was asked for and there was none.
	empty bool
}

func newPool(network netip.Prefix) *pool {
	return &pool{network: network, taken: map[netip.Addr]bool{}}
}

func (p *pool) take(addr netip.Addr) { p.taken[addr] = true }

// next takes the first free address from the given place on; when there is none,
// the first of all.
func (p *pool) next(from int) netip.Addr {
	first, last := hostRange(p.network)
	start := first
	for range from {
		start = start.Next()
	}
	for _, addr := range []netip.Addr{start, first} {
		for ; addr.IsValid() && !last.Less(addr); addr = addr.Next() {
			if !p.taken[addr] {
				p.take(addr)
				return addr
			}
		}
	}
	p.empty = true
	return netip.Addr{}
}

// last takes the last free address.
func (p *pool) last() netip.Addr {
	first, addr := hostRange(p.network)
	for ; addr.IsValid() && !addr.Less(first); addr = addr.Prev() {
		if !p.taken[addr] {
			p.take(addr)
			return addr
		}
	}
	p.empty = true
	return netip.Addr{}
}

// hostRange is the first and the last address of an IPv4 network that a host can
// have.
func hostRange(network netip.Prefix) (first, last netip.Addr) {
	bytes := network.Masked().Addr().As4()
	for bit := network.Bits(); bit < 32; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	return network.Masked().Addr().Next(), netip.AddrFrom4(bytes).Prev()
}
