package pool

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// minPrefix is the shortest prefix of a range: a /8 costs 2 MiB of memory, and
// nobody has more services than that.
const minPrefix = 8

// Number answers the number of an IPv4 address.
func Number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// Address answers the IPv4 address of a number.
func Address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// ServiceNetwork answers the span of the cluster IPs of a network: all but its
// first and last address. As in Kubernetes, a sixteenth of it, at least 16 and
// at most 256 addresses, is held for those who wish for a certain one.
func ServiceNetwork(text string) (Span, error) {
	prefix, err := parsePrefix(text)
	if err != nil {
		return Span{}, err
	}
	if prefix.Bits() > 30 {
		return Span{}, fmt.Errorf("%q has no address left for services", text)
	}
	s := spanOf(prefix)
	s.First, s.Last = s.First+1, s.Last-1
	size := s.Last - s.First + 1
	if size > 16 {
		s.Held = min(max(16, size/16), 256)
	}
	return s, nil
}

// Addresses answers the span of a pool of addresses: a network
// ("192.0.2.0/24", every address of it) or a range ("192.0.2.10-192.0.2.20").
func Addresses(text string) (Span, error) {
	low, high, isRange := strings.Cut(text, "-")
	if !isRange {
		prefix, err := parsePrefix(text)
		if err != nil {
			return Span{}, err
		}
		return spanOf(prefix), nil
	}
	first, errFirst := netip.ParseAddr(low)
	last, errLast := netip.ParseAddr(high)
	switch {
	case errFirst != nil || errLast != nil:
		return Span{}, fmt.Errorf("%q is not a range such as 192.0.2.10-192.0.2.20", text)
	case !first.Is4() || !last.Is4():
		return Span{}, fmt.Errorf("%q is not IPv4, the only family today", text)
	case last.Less(first):
		return Span{}, fmt.Errorf("%q ends before it starts", text)
	}
	s := Span{First: Number(first), Last: Number(last)}
	if uint64(s.Last)-uint64(s.First) >= 1<<(32-minPrefix) {
		return Span{}, fmt.Errorf("%q is larger than a /%d", text, minPrefix)
	}
	return s, nil
}

// Ports answers the span of a range of ports, "30000-32767". As in Kubernetes,
// a thirty-second of it, at least 16 and at most 128 ports, is held for those
// who wish for a certain one.
func Ports(text string) (Span, error) {
	low, high, isRange := strings.Cut(text, "-")
	first, errFirst := strconv.ParseUint(low, 10, 16)
	last, errLast := strconv.ParseUint(high, 10, 16)
	switch {
	case !isRange || errFirst != nil || errLast != nil || first == 0:
		return Span{}, fmt.Errorf("%q is not a range of ports such as 30000-32767", text)
	case last < first:
		return Span{}, fmt.Errorf("%q ends before it starts", text)
	}
	s := Span{First: uint32(first), Last: uint32(last)}
	if size := s.Last - s.First + 1; size > 16 {
		s.Held = min(max(16, size/32), 128)
	}
	return s, nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return prefix, fmt.Errorf("%q is not a network such as 172.30.0.0/16", text)
	case !prefix.Addr().Is4():
		return prefix, fmt.Errorf("%q is not IPv4, the only family today", text)
	case prefix != prefix.Masked() || prefix.String() != text:
		return prefix, fmt.Errorf("%q is not canonical: %q is", text, prefix.Masked())
	case prefix.Bits() < minPrefix:
		return prefix, fmt.Errorf("%q is larger than a /%d", text, minPrefix)
	}
	return prefix, nil
}

func spanOf(prefix netip.Prefix) Span {
	first := Number(prefix.Addr())
	return Span{First: first, Last: first | (1<<(32-prefix.Bits()) - 1)}
}
