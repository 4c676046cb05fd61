package lease

import (
	"fmt"
	"net/netip"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

// nodePort is a port of the node, on some of its addresses.
type nodePort struct {
	protocol cniv1.Protocol
	port     uint32
}

// hostPorts is who has which port of the node, by the address that it is on. The zero
// address stands for all of them.
type hostPorts map[nodePort]map[netip.Addr]Key

// nodePortOf reads a host port. No protocol means TCP.
func nodePortOf(p *cniv1.HostPort) (nodePort, netip.Addr) {
	at := nodePort{p.GetProtocol(), p.GetHostPort()}
	if at.protocol == cniv1.Protocol_PROTOCOL_UNSPECIFIED {
		at.protocol = cniv1.Protocol_PROTOCOL_TCP
	}
	address, err := netip.ParseAddr(p.GetHostIp())
	if err != nil || address.IsUnspecified() {
		return at, netip.Addr{}
	}
	return at, address
}

func (h hostPorts) take(a *cniv1.Attachment) {
	for _, p := range a.GetHostPorts() {
		at, address := nodePortOf(p)
		if h[at] == nil {
			h[at] = map[netip.Addr]Key{}
		}
		h[at][address] = KeyOf(a)
	}
}

func (h hostPorts) give(a *cniv1.Attachment) {
	for _, p := range a.GetHostPorts() {
		at, address := nodePortOf(p)
		delete(h[at], address)
		if len(h[at]) == 0 {
			delete(h, at)
		}
	}
}

// owner answers who else has a port on an address that a host port is on too.
func (h hostPorts) owner(p *cniv1.HostPort, asks Key) (Key, bool) {
	at, address := nodePortOf(p)
	for taken, key := range h[at] {
		overlap := taken == address || !taken.IsValid() || !address.IsValid()
		if overlap && key != asks {
			return key, true
		}
	}
	return Key{}, false
}

// hostPortsFit says whether an attachment's host ports are nobody else's.
func (s *Store) hostPortsFit(a *cniv1.Attachment) error {
	for _, p := range a.GetHostPorts() {
		if owner, taken := s.hostPorts.owner(p, KeyOf(a)); taken {
			at, _ := nodePortOf(p)
			return fmt.Errorf("host port %d of %s belongs to %s: %w", at.port, protocolName(at.protocol), s.describe(owner), ErrHostPortTaken)
		}
	}
	return nil
}

func protocolName(p cniv1.Protocol) string {
	switch p {
	case cniv1.Protocol_PROTOCOL_UDP:
		return "UDP"
	case cniv1.Protocol_PROTOCOL_SCTP:
		return "SCTP"
	default:
		return "TCP"
	}
}
