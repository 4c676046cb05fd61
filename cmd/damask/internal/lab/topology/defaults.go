package topology

import (
	"net/netip"
	"slices"
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
		Replicas:        Replicas{NATS: 1, IPAM: 1, Tenancy: 1},
	}
}

// setAddresses gives the default outside host and the control host addresses
// that nobody else has. It tells whether there were enough.
func (t *Topology) setAddresses() bool {
	taken := map[netip.Addr]bool{}
	for _, node := range t.Nodes {
		taken[node.IP] = true
	}
	for _, host := range t.Outside {
		taken[host.IP] = true
	}
	first, last := hostRange(t.Underlay)
	if len(t.Outside) == 0 {
		for addr := first; ; addr = addr.Next() {
			if !t.Underlay.Contains(addr) || addr.Compare(last) > 0 {
				return false
			}
			if !taken[addr] {
				t.Outside = []Outside{{Name: DefaultOutside, IP: addr}}
				taken[addr] = true
				break
			}
		}
	}
	count := slices.Max([]int{t.Replicas.NATS, t.Replicas.IPAM, t.Replicas.Tenancy})
	for addr := last; len(t.Control) < count; addr = addr.Prev() {
		if !addr.IsValid() || addr.Less(first) {
			return false
		}
		if !taken[addr] {
			t.Control = append(t.Control, addr)
		}
	}
	return true
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
