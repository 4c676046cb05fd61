// Package plan is the cluster's address plan: which ranges pods, services and
// tunnels use.
//
// It is pure. It owns the rules of what a plan may be, and of what may change
// while nodes have subnets of it. It promises to report everything that is
// wrong at once. It must not know how a plan is stored.
package plan

import (
	"net/netip"
	"slices"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam/subnet"
)

// Name is the name of the only plan.
const Name = "default"

// Default UDP ports of the tunnels: RFC 7348 and RFC 8926.
const (
	portVXLAN  = 4789
	portGeneve = 6081
)

// MTU bounds in bytes: the least that IPv4 hosts must take (RFC 791), and the
// most that a link can have.
const (
	minMTU = 576
	maxMTU = 65535
)

// Plan is an address plan that follows the rules. Make it with Parse.
type Plan struct {
	// Ranges are the ranges of pod addresses, in the order in which they are
	// used up. At least one.
	Ranges []subnet.Range
	// Services are the ranges of service addresses. At least one.
	Services []netip.Prefix
	// Tunnel is how packets travel between nodes.
	Tunnel Tunnel
	// MTU of pods in bytes; 0 lets each node choose.
	MTU uint32
}

// Tunnel is how packets travel between nodes.
type Tunnel struct {
	// Type is never unspecified.
	Type ipamv1.TunnelType
	// Port is the UDP port; 0 for GRE only.
	Port uint32
}

// Equal says whether two plans are the same, field by field.
func (p Plan) Equal(other Plan) bool {
	return slices.Equal(p.Ranges, other.Ranges) && slices.Equal(p.Services, other.Services) &&
		p.Tunnel == other.Tunnel && p.MTU == other.MTU
}

// RangeOf answers the range that a prefix is a node's subnet of.
func (p Plan) RangeOf(prefix netip.Prefix) (subnet.Range, bool) {
	for _, r := range p.Ranges {
		if r.Has(prefix) {
			return r, true
		}
	}
	return subnet.Range{}, false
}

// Covering answers the pod or service range that has the address, and what it
// is ("pod network" or "service network").
func (p Plan) Covering(address netip.Addr) (prefix netip.Prefix, what string, found bool) {
	for _, r := range p.Ranges {
		if r.Prefix().Contains(address) {
			return r.Prefix(), "pod network", true
		}
	}
	for _, s := range p.Services {
		if s.Contains(address) {
			return s, "service network", true
		}
	}
	return netip.Prefix{}, "", false
}

// Message is the plan as the API and the store have it, with every default
// filled in.
func (p Plan) Message() *ipamv1.ClusterNetwork {
	m := &ipamv1.ClusterNetwork{
		Name:   Name,
		Tunnel: &ipamv1.Tunnel{Type: p.Tunnel.Type, Port: p.Tunnel.Port},
		Mtu:    p.MTU,
	}
	for _, r := range p.Ranges {
		m.Networks = append(m.Networks, &ipamv1.ClusterNetworkEntry{
			Cidr: r.Prefix().String(), HostSubnetLength: uint32(r.HostBits()),
		})
	}
	for _, s := range p.Services {
		m.ServiceNetworks = append(m.ServiceNetworks, s.String())
	}
	return m
}
