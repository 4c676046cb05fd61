package placement

import (
	"net/netip"
	"slices"
)

// Reason says why an address is not hosted. A higher one is nearer to being
// hosted.
type Reason int

// The reasons, as AddressReason in damask.egress.v1.
const (
	None Reason = iota
	Duplicate
	NodeAddress
	ClusterNetwork
	NoNode
	NetworkUnknown
	OutsideNetwork
	NodeDown
	Drained
	SameNode
	NoCapacity
)

// impossible says why no node at all can host the address, or None.
func (p *Planner) impossible(a *address) Reason {
	if p.own[a.ip] != nil {
		return NodeAddress
	}
	for _, network := range p.reserved {
		if network.Contains(a.ip) {
			return ClusterNetwork
		}
	}
	return None
}

// unfit says why the node cannot host the address whatever else is hosted
// there, or None.
func (n *node) unfit(ip netip.Addr) Reason {
	switch {
	case len(n.Networks) == 0:
		return NetworkUnknown
	case !slices.ContainsFunc(n.Networks, func(network netip.Prefix) bool { return usableIn(network, ip) }):
		return OutsideNetwork
	case n.Down:
		return NodeDown
	case n.Drained:
		return Drained
	}
	return None
}

// usableIn says whether a host of the network can have the address: it is
// inside, and neither the network's own address nor its broadcast address.
func usableIn(network netip.Prefix, ip netip.Addr) bool {
	if !network.Contains(ip) || !ip.Is4() {
		return false
	}
	if network.Bits() > 30 { // RFC 3021
		return true
	}
	bytes, host := ip.As4(), 32-network.Bits()
	value := uint32(bytes[0])<<24 | uint32(bytes[1])<<16 | uint32(bytes[2])<<8 | uint32(bytes[3])
	mask := uint32(1)<<host - 1
	return value&mask != 0 && value&mask != mask
}

// candidates answers the nodes that are meant to host the address, fit or not,
// by name.
func (p *Planner) candidates(a *address) []*node {
	if listing := p.listed[a.ip]; listing != nil {
		return byName(listing)
	}
	found := map[*node]bool{}
	for r, members := range p.ranges {
		if r.Contains(a.ip) {
			for n := range members {
				found[n] = true
			}
		}
	}
	return byName(found)
}

// meant says whether the node is among the address's candidates.
func (p *Planner) meant(a *address, n *node) bool {
	if listing := p.listed[a.ip]; listing != nil {
		return listing[n]
	}
	return slices.ContainsFunc(n.Ranges, func(r netip.Prefix) bool { return r.Contains(a.ip) })
}

// fitting answers the candidates that could host the address if nothing else
// were hosted, by name.
func (p *Planner) fitting(a *address) []*node {
	if p.impossible(a) != None {
		return nil
	}
	return slices.DeleteFunc(p.candidates(a), func(n *node) bool { return n.unfit(a.ip) != None })
}

// fits says whether the node could host the address if nothing else were.
func (p *Planner) fits(a *address, n *node) bool {
	return p.nodes[n.name] == n && p.meant(a, n) && n.unfit(a.ip) == None && p.impossible(a) == None
}

// room says whether the node can take the address beside what it hosts.
func (p *Planner) room(a *address, n *node) bool {
	return !n.full() && p.seats[seat{a.owner.key, n}] == nil
}
