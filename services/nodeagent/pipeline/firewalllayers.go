package pipeline

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// First match wins, but flows are in no order: a higher priority wins. A piece of a rule
// needs a priority above those of the pieces behind it which it overlaps and which
// decide otherwise, and no other. So its depth is one more than the deepest of these.
// Depth depends on what overlaps and not on the place in the list, which is why few
// flows change when a rule comes or goes, and why thousands of rules need few priorities.

// piece is what one flow can match.
type piece struct {
	to    netip.Prefix
	ports portPiece
	allow bool
	depth int
}

// portPiece is an aligned range of 2^(16-bits) ports of a protocol; without a protocol,
// everything. Two are either apart, or one is in the other, as prefixes are.
type portPiece struct {
	protocol uint8 // One more than its place in protocols, or 0.
	port     uint16
	bits     int8
}

var protocols = [...]Protocol{TCP, UDP, SCTP}

// match is every packet of these ports.
func (p portPiece) match() openflow.Match {
	if p.protocol == 0 {
		return openflow.IP()
	}
	match := ServicePort{Protocol: protocols[p.protocol-1]}.match()
	if p.bits == 0 {
		return match
	}
	return match.DstPortMasked(p.port, ^uint16(0)<<(16-p.bits))
}

// around is the piece of so many bits that has this one; -1 bits are every protocol.
func (p portPiece) around(length int8) portPiece {
	if length < 0 {
		return portPiece{bits: -1}
	}
	return portPiece{protocol: p.protocol, port: p.port & (^uint16(0) << (16 - length)), bits: length}
}

// pieces cuts ports into what single flows can match.
func (p FirewallPorts) pieces() []portPiece {
	protocol := uint8(slices.Index(protocols[:], p.Protocol) + 1) //nolint:gosec // 3 at most
	switch {
	case protocol == 0:
		return nil
	case p.First == 0 && p.Last == 0:
		return []portPiece{{protocol: protocol}}
	}
	var all []portPiece
	for first, last := uint32(p.First), uint32(p.Last); first <= last; {
		size := min(bits.Len32(last-first+1)-1, bits.TrailingZeros32(first|1<<16))
		all = append(all, portPiece{protocol: protocol, port: uint16(first), bits: int8(16 - size)}) //nolint:gosec // below 1<<16
		first += 1 << size
	}
	return all
}

// layered cuts rules into pieces, leaves out those that an earlier one has before them,
// and gives each its depth; false if that goes deeper than there are priorities.
func layered(rules []FirewallRule) ([]piece, bool) {
	pieces, shape := cut(rules)
	index := newLayers(shape, len(pieces))
	for i := len(pieces) - 1; i >= 0; i-- {
		p := &pieces[i]
		p.depth = index.below(*p)
		if p.depth >= MaxFirewallDepth {
			return nil, false
		}
		index.add(*p)
	}
	return pieces, true
}

// cut answers the pieces in order, and which lengths they have.
func cut(rules []FirewallRule) ([]piece, lengths) {
	var all []piece
	var shape lengths
	for _, r := range rules {
		var ports []portPiece
		for _, p := range r.Ports {
			ports = append(ports, p.pieces()...)
		}
		if len(r.Ports) == 0 {
			ports = []portPiece{{bits: -1}}
		}
		for _, to := range r.To {
			if !to.IsValid() || !to.Addr().Is4() || len(ports) == 0 {
				continue
			}
			shape.prefix[to.Bits()] = true
			for _, p := range ports {
				shape.port[p.bits+1] = true
				all = append(all, piece{to: to.Masked(), ports: p, allow: r.Allow})
			}
		}
	}
	seen := make(map[corner]bool, len(all))
	kept := all[:0]
	for _, p := range all {
		if !shape.any(p, func(c corner) bool { return seen[c] }) {
			seen[cornerOf(p.to, p.ports)] = true
			kept = append(kept, p)
		}
	}
	return kept, shape
}

// lengths are those of prefixes, and those of port pieces and one, that are there at all.
type lengths struct {
	prefix [33]bool
	port   [18]bool
}

// corner is a network and ports in one number, as the key of a map: 32 bits of address, 6
// of its length, 3 of protocol, 5 of the ports' length and one, 16 of port.
type corner uint64

func cornerOf(to netip.Prefix, ports portPiece) corner {
	a := to.Addr().As4()
	network := uint64(binary.BigEndian.Uint32(a[:]))<<6 | uint64(to.Bits())                               //nolint:gosec // 32 at most
	return corner(((network<<3|uint64(ports.protocol))<<5|uint64(ports.bits+1))<<16 | uint64(ports.port)) //nolint:gosec // -1 at least
}

// any says whether a condition is true of the piece or of any that has it whole.
func (l *lengths) any(p piece, condition func(corner) bool) bool {
	for _, network := range l.networks(p.to) {
		for _, ports := range l.around(p.ports) {
			if condition(cornerOf(network, ports)) {
				return true
			}
		}
	}
	return false
}

// networks are the prefixes of lengths that are there which have this one, itself the last.
func (l *lengths) networks(p netip.Prefix) []netip.Prefix {
	all := make([]netip.Prefix, 0, 4)
	for length := range p.Bits() + 1 {
		if l.prefix[length] {
			all = append(all, netip.PrefixFrom(p.Addr(), length).Masked())
		}
	}
	return all
}

// around are the port pieces of lengths that are there which have this one, itself the last.
func (l *lengths) around(p portPiece) []portPiece {
	all := make([]portPiece, 0, 4)
	for length := int8(-1); length <= p.bits; length++ {
		if l.port[length+1] {
			all = append(all, p.around(length))
		}
	}
	return all
}

// layers finds the deepest piece that overlaps another. Networks that overlap are one in
// the other, and so are ports; so for each corner there is a note of pieces that have
// just it, and of those inside, by networks and by ports.
type layers struct {
	lengths
	notes [2][2]map[corner]deepest // Inside by networks, inside by ports.
}

// deepest is one more than the greatest depth, of pieces that allow and of those that do not.
type deepest [2]uint16

func newLayers(shape lengths, pieces int) *layers {
	l := &layers{lengths: shape}
	for i := range l.notes {
		for j := range l.notes[i] {
			l.notes[i][j] = make(map[corner]deepest, pieces)
		}
	}
	return l
}

// below is the depth that a piece needs, which is added after those behind it.
func (l *layers) below(p piece) int {
	depth, other := uint16(0), side(!p.allow)
	networks, around := l.networks(p.to), l.around(p.ports)
	for i, network := range networks {
		for j, ports := range around {
			c := cornerOf(network, ports)
			depth = max(depth, l.notes[0][0][c][other])
			if j == len(around)-1 {
				depth = max(depth, l.notes[0][1][c][other])
			}
			if i == len(networks)-1 {
				depth = max(depth, l.notes[1][0][c][other])
			}
			if i == len(networks)-1 && j == len(around)-1 {
				depth = max(depth, l.notes[1][1][c][other])
			}
		}
	}
	return int(depth)
}

// add notes a piece that has its depth.
func (l *layers) add(p piece) {
	networks, around := l.networks(p.to), l.around(p.ports)
	note := func(inNetwork, inPorts int, c corner) {
		d := l.notes[inNetwork][inPorts][c]
		d[side(p.allow)] = max(d[side(p.allow)], uint16(p.depth+1)) //nolint:gosec // MaxFirewallDepth at most
		l.notes[inNetwork][inPorts][c] = d
	}
	note(0, 0, cornerOf(p.to, p.ports))
	for _, ports := range around {
		note(0, 1, cornerOf(p.to, ports))
	}
	for _, network := range networks {
		note(1, 0, cornerOf(network, p.ports))
		for _, ports := range around {
			note(1, 1, cornerOf(network, ports))
		}
	}
}

// side is where a deepest has what such a piece says.
func side(allow bool) int {
	if allow {
		return 1
	}
	return 0
}
