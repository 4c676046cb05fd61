package lease

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// use makes subnet the one that addresses are taken from. It costs something
// only when the subnet changes. The log says so, because what was freed in the
// old subnet is forgotten then.
func (s *Store) use(subnet netip.Prefix) error {
	if subnet == s.subnet {
		return nil
	}
	if !usable(subnet) {
		return fmt.Errorf("subnet %s: want an IPv4 network from /8 to /30, without host bits", subnet)
	}
	if err := s.log.append(encodeSubnet(subnet)); err != nil {
		return fmt.Errorf("write subnet %s: %w", subnet, err)
	}
	s.turnTo(subnet)
	return nil
}

// usable says whether pods can live in subnet: it needs room for the network's
// address, the gateway, a pod and the broadcast address.
func usable(subnet netip.Prefix) bool {
	return subnet.IsValid() && subnet == subnet.Masked() && subnet.Addr().Is4() && subnet.Bits() <= 30 && subnet.Bits() >= 8
}

// turnTo applies a change of the subnet to memory.
func (s *Store) turnTo(subnet netip.Prefix) {
	first := number(subnet.Addr())
	size := uint32(1)<<(32-subnet.Bits()) - 1 // the offset of the broadcast address
	// The network's own address and the gateway (the first) are before the range.
	s.addresses.narrow(first+2, first+size-1)
	s.subnet = subnet
}

// pickAddress chooses without taking.
func (s *Store) pickAddress(wish netip.Addr) (netip.Addr, error) {
	if !wish.IsValid() {
		n, ok := s.addresses.pick()
		if !ok {
			_, total := s.addresses.free()
			return netip.Addr{}, fmt.Errorf("subnet %s: all %d addresses are in use: %w", s.subnet, total, ErrFull)
		}
		return address(n), nil
	}
	if !wish.Is4() || !s.addresses.contains(number(wish)) {
		return netip.Addr{}, fmt.Errorf("address %s: not a pod address of this node's subnet %s: %w", wish, s.subnet, ErrBadWish)
	}
	if owner, taken := s.addresses.owner(number(wish)); taken {
		return netip.Addr{}, fmt.Errorf("address %s belongs to %s: %w", wish, s.describe(owner), ErrAddressTaken)
	}
	return wish, nil
}

// pickPort chooses without taking.
func (s *Store) pickPort(wish uint32) (uint32, error) {
	if wish == 0 {
		n, ok := s.ports.pick()
		if !ok {
			return 0, ErrPortsFull
		}
		return n, nil
	}
	if !s.ports.contains(wish) {
		return 0, fmt.Errorf("OpenFlow port %d: want %d to %d: %w", wish, FirstPort, LastPort, ErrBadWish)
	}
	if owner, taken := s.ports.owner(wish); taken {
		return 0, fmt.Errorf("OpenFlow port %d belongs to %s: %w", wish, s.describe(owner), ErrPortTaken)
	}
	return wish, nil
}

// describe names an owner in the words of an operator.
func (s *Store) describe(key Key) string {
	a := s.leases[key].Attachment
	if a.GetPodName() == "" {
		return "sandbox " + key.String()
	}
	return fmt.Sprintf("pod %s/%s (sandbox %s)", a.GetPodNamespace(), a.GetPodName(), key)
}

// number is an IPv4 address as a number.
func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// address undoes number.
func address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
