package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// Protocol is an IP protocol number.
type Protocol uint8

// Protocols that rules can ask for ports of.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String is Kubernetes' name, or the number.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return strconv.Itoa(int(p))
}

// A Rule matches connections by the other side and by the destination's port.
//
// It matches when the peer and the port do, where a named port means what it
// means at the destination; for egress, where every destination has its own
// meaning, Endpoints say it, each already limited to the rule's peers.
type Rule struct {
	// Name is the administrator's, for tiers that have one.
	Name      string
	Direction Direction
	Action    Action

	// AnyPeer: the other side does not matter, be it a pod or not. Otherwise one
	// of Peers must hold it; none of none does.
	AnyPeer bool
	Peers   []Peer

	// AnyPort: neither the protocol nor the port matters. Otherwise one of Ports
	// or of Named must hold it.
	AnyPort bool
	Ports   []PortRange
	// Named are ports by their name at the pod that the policy applies to. Only
	// for ingress.
	Named []PortName
	// Endpoints are destinations by named port, with their peers. Only for
	// egress; a destination in one of them is matched whatever Peers and Ports
	// say.
	Endpoints []Endpoints
}

// Peer is a set of addresses: a group, or a block, never both.
type Peer struct {
	Group GroupID
	Block Block
}

// Block is a prefix less some parts of it.
type Block struct {
	CIDR   netip.Prefix
	Except []netip.Prefix
}

// Holds reports whether the address is in the block.
func (b Block) Holds(a netip.Addr) bool {
	return b.CIDR.Contains(a) && !slices.ContainsFunc(b.Except, func(p netip.Prefix) bool { return p.Contains(a) })
}

// String is "10.0.0.0/8", with what is left out, if anything is.
func (b Block) String() string {
	if len(b.Except) == 0 {
		return b.CIDR.String()
	}
	return fmt.Sprintf("%s except %v", b.CIDR, b.Except)
}

// PortRange is ports of a protocol, First to Last. All of its ports, and
// packets that have none, when both are 0.
type PortRange struct {
	Protocol    Protocol
	First, Last uint16
}

// All reports whether the range is of all ports.
func (r PortRange) All() bool { return r.First == 0 && r.Last == 0 }

// Holds reports whether a packet is in the range.
func (r PortRange) Holds(protocol Protocol, port uint16) bool {
	return r.Protocol == protocol && (r.All() || r.First <= port && port <= r.Last)
}

// PortName is a port by the name that pods give it.
type PortName struct {
	Protocol Protocol
	Name     string
}

// Endpoints is a group of addresses with ports of one protocol. With a block,
// only those in it.
type Endpoints struct {
	Group    GroupID
	Protocol Protocol
	Within   Block // All of the group when its CIDR is the zero Prefix.
}

// Holds reports whether an address of the group counts.
func (e Endpoints) Holds(a netip.Addr) bool { return !e.Within.CIDR.IsValid() || e.Within.Holds(a) }
