// Package subnet knows which subnets a range of pod addresses has, and in
// which order nodes get them.
//
// It is pure: no state, no clock, no store. It promises that the order names
// every subnet of a range exactly once, and that it is OpenShift SDN's order,
// so that a cluster that moves from there sees the subnets it is used to. It
// must not know who has which subnet.
package subnet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Bounds of the number of host bits in a node's subnet: two bits leave one
// address for a pod beside network, gateway and broadcast; 30 is the API's.
const (
	MinHostBits = 2
	MaxHostBits = 30
)

// addressBits is the length of an IPv4 address.
const addressBits = 32

// Range is a range of IPv4 addresses that is given out in subnets of one size.
// Make it with NewRange.
type Range struct {
	prefix   netip.Prefix
	hostBits int
}

// NewRange answers the range of a canonical IPv4 prefix, in subnets with
// hostBits bits for hosts: 9 gives /23 subnets.
func NewRange(prefix netip.Prefix, hostBits int) (Range, error) {
	switch {
	case !prefix.IsValid() || !prefix.Addr().Is4():
		return Range{}, fmt.Errorf("%s is not an IPv4 range", prefix)
	case prefix != prefix.Masked():
		return Range{}, fmt.Errorf("%s has host bits set; the range is %s", prefix, prefix.Masked())
	case hostBits < MinHostBits || hostBits > MaxHostBits:
		return Range{}, fmt.Errorf("%d host bits are not within %d to %d", hostBits, MinHostBits, MaxHostBits)
	case hostBits > addressBits-prefix.Bits():
		return Range{}, fmt.Errorf("%d host bits are more than the %d of %s", hostBits, addressBits-prefix.Bits(), prefix)
	}
	return Range{prefix: prefix, hostBits: hostBits}, nil
}

// Prefix is the whole range.
func (r Range) Prefix() netip.Prefix { return r.prefix }

// HostBits is the number of host bits in each subnet.
func (r Range) HostBits() int { return r.hostBits }

// Bits is the prefix length of each subnet.
func (r Range) Bits() int { return addressBits - r.hostBits }

// String names the range and the size of its subnets: "10.128.0.0/14 by /23".
func (r Range) String() string { return fmt.Sprintf("%s by /%d", r.prefix, r.Bits()) }

// Count is the number of subnets, 1 to 2^30.
func (r Range) Count() uint32 { return 1 << r.subnetBits() }

func (r Range) subnetBits() int { return r.Bits() - r.prefix.Bits() }

// Has says whether p is one of the range's subnets.
func (r Range) Has(p netip.Prefix) bool {
	return p.IsValid() && p.Bits() == r.Bits() && p == p.Masked() && r.prefix.Contains(p.Addr())
}

// At answers the n-th subnet in the order in which nodes get them, n from 0 to
// Count()-1.
//
// Subnets that start at an octet's boundary come first, because their
// addresses are easier to read: of 10.128.0.0/14 by /23 these are 10.128.0.0,
// 10.129.0.0, 10.130.0.0 and 10.131.0.0, and only then 10.128.2.0. For this
// the number's bits are rotated, so that its highest ones land in the octet
// that subnet and host share. Where no octet is shared, or the subnet number
// fits in it, the order is ascending.
func (r Range) At(n uint32) netip.Prefix {
	number := n
	if shared := r.sharedBits(); shared > 0 {
		all := r.Count() - 1
		number = (n<<shared)&all | n>>(r.subnetBits()-shared)
	}
	network := r.prefix.Addr().As4()
	base := binary.BigEndian.Uint32(network[:]) | number<<r.hostBits
	binary.BigEndian.PutUint32(network[:], base)
	return netip.PrefixFrom(netip.AddrFrom4(network), r.Bits())
}

// sharedBits is how many bits of the subnet number lie in an octet that also
// has host bits, or 0 when all of them do or none.
func (r Range) sharedBits() int {
	if r.hostBits%8 == 0 {
		return 0
	}
	shared := 8 - r.hostBits%8
	if r.subnetBits() <= shared {
		return 0
	}
	return shared
}
