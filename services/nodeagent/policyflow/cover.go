package policyflow

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/internal/policy"
)

// span is numbers from first to last: addresses, or ports.
type span struct{ first, last uint64 }

// Cover answers the fewest prefixes that hold just the IPv4 addresses that are in
// any of the blocks, in order. To take a /e out of a /b costs e-b prefixes.
func Cover(blocks []policy.Block) []netip.Prefix {
	var all []span
	for _, b := range blocks {
		if b.CIDR.IsValid() && b.CIDR.Addr().Is4() {
			all = append(all, without(prefixSpan(b.CIDR), b.Except)...)
		}
	}
	var prefixes []netip.Prefix
	for _, s := range merged(all) {
		aligned(s, func(first uint64, size int) {
			var a [4]byte
			binary.BigEndian.PutUint32(a[:], uint32(first))
			prefixes = append(prefixes, netip.PrefixFrom(netip.AddrFrom4(a), 32-size))
		})
	}
	return prefixes
}

func prefixSpan(p netip.Prefix) span {
	a := p.Masked().Addr().As4()
	first := uint64(binary.BigEndian.Uint32(a[:]))
	return span{first, first + 1<<(32-p.Bits()) - 1}
}

// without answers what is left of a span when parts are taken out.
func without(s span, except []netip.Prefix) []span {
	var parts []span
	for _, e := range except {
		if e.IsValid() && e.Addr().Is4() {
			parts = append(parts, prefixSpan(e))
		}
	}
	var left []span
	for _, p := range merged(parts) {
		if p.last < s.first || p.first > s.last {
			continue
		}
		if p.first > s.first {
			left = append(left, span{s.first, p.first - 1})
		}
		s.first = p.last + 1
	}
	if s.first <= s.last {
		left = append(left, s)
	}
	return left
}

// merged answers spans that do not touch, in order.
func merged(spans []span) []span {
	sorted := slices.SortedFunc(slices.Values(spans), func(a, b span) int { return cmp.Compare(a.first, b.first) })
	var out []span
	for _, s := range sorted {
		if n := len(out); n > 0 && s.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// aligned cuts a span into the fewest pieces of 2^size numbers that begin at a
// multiple of their length.
func aligned(s span, piece func(first uint64, size int)) {
	for s.first <= s.last {
		size := bits.Len64(s.last-s.first+1) - 1
		if s.first != 0 {
			size = min(size, bits.TrailingZeros64(s.first))
		}
		piece(s.first, size)
		s.first += 1 << size
	}
}

// A Ports is ports of a protocol that one flow can match.
type Ports struct {
	Protocol policy.Protocol
	// Port and Mask are the bits that count. A Mask of 0 is all ports, and what
	// has none.
	Port, Mask uint16
}

// CoverPorts answers the fewest masks that hold just the ports that are in any of
// the ranges, in order. A range of n ports costs at most 2·log₂(n) of them.
func CoverPorts(ranges []policy.PortRange) []Ports {
	byProtocol := map[policy.Protocol][]span{}
	all := map[policy.Protocol]bool{}
	for _, r := range ranges {
		all[r.Protocol] = all[r.Protocol] || r.All()
		byProtocol[r.Protocol] = append(byProtocol[r.Protocol], span{uint64(r.First), uint64(r.Last)})
	}
	var ports []Ports
	for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP} {
		if all[protocol] {
			ports = append(ports, Ports{Protocol: protocol})
			continue
		}
		for _, s := range merged(byProtocol[protocol]) {
			aligned(s, func(first uint64, size int) {
				ports = append(ports, Ports{protocol, uint16(first), ^uint16(1<<size - 1)})
			})
		}
	}
	return ports
}
