package lease

import (
	"fmt"
	"net/netip"
	"slices"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

// put writes a lease to the log, then to memory.
func (s *Store) put(l Lease) error {
	body, err := encodeLease(l)
	if err != nil {
		return err
	}
	if err := s.log.append(body); err != nil {
		return fmt.Errorf("write lease of %s: %w", KeyOf(l.Attachment), err)
	}
	s.remember(l)
	return nil
}

// mark changes only the state of a lease.
func (s *Store) mark(key Key, kind byte, attached bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.leases[key]
	if !ok {
		return fmt.Errorf("mark lease of %s: %w", key, ErrUnknown)
	}
	if l.Attached == attached {
		return nil
	}
	if err := s.log.append(encodeKey(kind, key)); err != nil {
		return fmt.Errorf("mark lease of %s: %w", key, err)
	}
	s.leases[key] = Lease{Attachment: l.Attachment, Attached: attached}
	return nil
}

// remember applies a lease to memory; it may replace one of the same key.
func (s *Store) remember(l Lease) {
	key := KeyOf(l.Attachment)
	if old, ok := s.leases[key]; ok {
		delete(s.veths, old.Attachment.GetHostVeth())
		s.hostPorts.give(old.Attachment)
		if port := old.Attachment.GetOfport(); port != l.Attachment.GetOfport() {
			s.ports.give(port)
		}
	}
	s.leases[key] = l
	s.veths[l.Attachment.GetHostVeth()] = key
	s.ports.take(l.Attachment.GetOfport(), key)
	s.hostPorts.take(l.Attachment)
	for _, n := range numbers(l.Attachment) {
		s.addresses.take(n, key)
	}
}

// forget removes a lease from memory.
func (s *Store) forget(key Key) {
	a := s.leases[key].Attachment
	delete(s.leases, key)
	delete(s.veths, a.GetHostVeth())
	s.hostPorts.give(a)
	s.ports.give(a.GetOfport())
	for _, n := range numbers(a) {
		s.addresses.give(n)
	}
}

// fits says whether a lease can live beside the others.
func (s *Store) fits(l Lease) error {
	key, a := KeyOf(l.Attachment), l.Attachment
	if err := wellFormed(a); err != nil {
		return err
	}
	for _, n := range numbers(a) {
		if owner, taken := s.addresses.owner(n); taken && owner != key {
			return fmt.Errorf("%s of %s: %w", address(n), s.describe(owner), ErrAddressTaken)
		}
	}
	if owner, taken := s.ports.owner(a.GetOfport()); taken && owner != key {
		return fmt.Errorf("port %d of %s: %w", a.GetOfport(), s.describe(owner), ErrPortTaken)
	}
	if owner, taken := s.veths[a.GetHostVeth()]; taken && owner != key {
		return fmt.Errorf("veth %s is of %s", a.GetHostVeth(), s.describe(owner))
	}
	return s.hostPortsFit(a)
}

// replay applies one record of the log. A record that contradicts those before
// it was not written by this package, or proves it wrong: it is refused.
func (s *Store) replay(body []byte) error {
	r, err := decode(body)
	if err != nil {
		return err
	}
	switch r.kind {
	case recordLease:
		if err := s.fits(r.lease); err != nil {
			return err
		}
		if old, ok := s.leases[KeyOf(r.lease.Attachment)]; ok && !slices.Equal(old.Attachment.GetIps(), r.lease.Attachment.GetIps()) {
			return fmt.Errorf("second address of %s", KeyOf(r.lease.Attachment))
		}
		s.remember(r.lease)
	case recordFreedAddress:
		if _, taken := s.addresses.owner(r.number); taken {
			return fmt.Errorf("freed address %s is in use", address(r.number))
		}
		s.addresses.give(r.number)
	case recordFreedPort:
		if _, taken := s.ports.owner(r.number); taken {
			return fmt.Errorf("freed port %d is in use", r.number)
		}
		s.ports.give(r.number)
	case recordSubnet:
		s.turnTo(r.subnet)
	default:
		l, ok := s.leases[r.key]
		if !ok {
			return fmt.Errorf("change of %s: %w", r.key, ErrUnknown)
		}
		if r.kind == recordReleased {
			s.forget(r.key)
			return nil
		}
		s.leases[r.key] = Lease{Attachment: l.Attachment, Attached: r.kind == recordAttached}
	}
	return nil
}

// tidy rewrites the log when most of it is history. It happens after as many
// bytes were appended as it writes, so that a change costs the same on average
// with any number of leases; and only in Release and Open, never while a pod
// waits to start.
func (s *Store) tidy() error {
	if !s.log.grown() {
		return nil
	}
	bodies := make([][]byte, 0, 1+len(s.leases)+s.addresses.freed.Len()+s.ports.freed.Len())
	if s.subnet.IsValid() {
		bodies = append(bodies, encodeSubnet(s.subnet))
	}
	for _, n := range s.addresses.history() {
		bodies = append(bodies, encodeNumber(recordFreedAddress, n))
	}
	for _, n := range s.ports.history() {
		bodies = append(bodies, encodeNumber(recordFreedPort, n))
	}
	for _, l := range s.leases {
		body, err := encodeLease(l)
		if err != nil {
			return err
		}
		bodies = append(bodies, body)
	}
	if err := s.log.rewrite(bodies); err != nil {
		return fmt.Errorf("rewrite leases: %w", err)
	}
	return nil
}

// numbers are the addresses of an attachment; those that are not IPv4 are left
// out, wellFormed has refused them.
func numbers(a *cniv1.Attachment) []uint32 {
	all := make([]uint32, 0, 1)
	for _, ip := range a.GetIps() {
		if p, err := netip.ParsePrefix(ip); err == nil && p.Addr().Is4() {
			all = append(all, number(p.Addr()))
		}
	}
	return all
}

// wellFormed checks what this package relies on.
func wellFormed(a *cniv1.Attachment) error {
	if a.GetContainerId() == "" || a.GetIfname() == "" || a.GetHostVeth() == "" {
		return fmt.Errorf("lease without container id, interface or veth")
	}
	if a.GetOfport() < FirstPort || a.GetOfport() > LastPort {
		return fmt.Errorf("lease of %s: port %d: want %d to %d: %w", KeyOf(a), a.GetOfport(), FirstPort, LastPort, ErrBadWish)
	}
	if len(a.GetIps()) != 1 {
		return fmt.Errorf("lease of %s: %d addresses: want one", KeyOf(a), len(a.GetIps()))
	}
	if p, err := netip.ParsePrefix(a.GetIps()[0]); err != nil || !p.Addr().Is4() {
		return fmt.Errorf("lease of %s: address %q: want an IPv4 address with prefix length", KeyOf(a), a.GetIps()[0])
	}
	return nil
}
