package openflow

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
)

// Ethernet types and IP protocols that builders imply.
const (
	ethTypeIPv4 = 0x0800
	ethTypeARP  = 0x0806
	ethTypeRARP = 0x8035
	ethTypeIPv6 = 0x86dd
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
)

// Connection tracking states for Match.CTState.
const (
	CTNew         uint32 = 1 << iota // Not committed yet.
	CTEstablished                    // Part of a committed connection.
	CTRelated                        // Related to a committed connection, as an ICMP error is.
	CTReply                          // Against the direction of the connection's first packet.
	CTInvalid                        // Not a connection.
	CTTracked                        // Has been through ct().
	CTSourceNAT                      // Its source is translated.
	CTDestNAT                        // Its destination is translated.
)

// A Match says which packets a flow is for. It is a value: builders return a new Match. Two matches are the same if and
// only if they are ==, whatever the order in which they were built.
//
// A builder given something that it cannot express (an invalid address, a register that does not exist) never widens the
// match: the problem is kept, Flow.Check reports it, and the flow is not sent.
type Match struct {
	tlv     string // OXM entries as on the wire, in canonical order (see fields), each at most once.
	problem string // What builders could not take.
}

// Any matches every packet.
func Any() Match { return Match{} }

// IP matches IPv4.
func IP() Match { return Any().EthType(ethTypeIPv4) }

// IPv6 matches IPv6.
func IPv6() Match { return Any().EthType(ethTypeIPv6) }

// ARP matches ARP for IPv4.
func ARP() Match { return Any().EthType(ethTypeARP) }

// TCP matches TCP in IPv4.
func TCP() Match { return IP().Proto(protoTCP) }

// UDP matches UDP in IPv4.
func UDP() Match { return IP().Proto(protoUDP) }

// SCTP matches SCTP in IPv4.
func SCTP() Match { return IP().Proto(protoSCTP) }

// ICMP matches ICMP in IPv4.
func ICMP() Match { return IP().Proto(protoICMP) }

// EthType matches the Ethernet type.
func (m Match) EthType(t uint16) Match { return m.with16(oxmEthType, t) }

// Proto matches the IP protocol number. It needs IP or IPv6.
func (m Match) Proto(p uint8) Match { return m.with(oxmIPProto, string([]byte{p}), "") }

// InPort matches the OpenFlow port that the packet came in by.
func (m Match) InPort(p uint32) Match { return m.with32(oxmInPort, p, math.MaxUint32) }

// EthSrc matches the source MAC.
func (m Match) EthSrc(mac net.HardwareAddr) Match { return m.withMAC(oxmEthSrc, mac, nil) }

// EthSrcMasked matches those bits of the source MAC that are set in mask.
func (m Match) EthSrcMasked(mac, mask net.HardwareAddr) Match {
	return m.withMAC(oxmEthSrc, mac, orInvalid(mask))
}

// EthDst matches the destination MAC.
func (m Match) EthDst(mac net.HardwareAddr) Match { return m.withMAC(oxmEthDst, mac, nil) }

// EthDstMasked matches those bits of the destination MAC that are set in mask.
func (m Match) EthDstMasked(mac, mask net.HardwareAddr) Match {
	return m.withMAC(oxmEthDst, mac, orInvalid(mask))
}

// IPSrc matches the source address, and implies IPv4 or IPv6 after the prefix.
func (m Match) IPSrc(p netip.Prefix) Match {
	if p.Addr().Is6() {
		return m.EthType(ethTypeIPv6).withPrefix(oxmIPv6Src, p)
	}
	return m.EthType(ethTypeIPv4).withPrefix(oxmIPv4Src, p)
}

// IPDst matches the destination address, and implies IPv4 or IPv6 after the prefix.
func (m Match) IPDst(p netip.Prefix) Match {
	if p.Addr().Is6() {
		return m.EthType(ethTypeIPv6).withPrefix(oxmIPv6Dst, p)
	}
	return m.EthType(ethTypeIPv4).withPrefix(oxmIPv4Dst, p)
}

// ARPOp matches the ARP operation: 1 request, 2 reply. It implies ARP, as all ARP fields do.
func (m Match) ARPOp(op uint16) Match { return m.EthType(ethTypeARP).with16(oxmARPOp, op) }

// ARPSender matches the sender's address (arp_spa).
func (m Match) ARPSender(p netip.Prefix) Match { return m.EthType(ethTypeARP).withPrefix(oxmARPSPA, p) }

// ARPTarget matches the address asked for (arp_tpa).
func (m Match) ARPTarget(p netip.Prefix) Match { return m.EthType(ethTypeARP).withPrefix(oxmARPTPA, p) }

// ARPSenderMAC matches those bits of the sender's MAC (arp_sha) that are set in mask; a nil mask is all of them.
func (m Match) ARPSenderMAC(mac, mask net.HardwareAddr) Match {
	return m.EthType(ethTypeARP).withMAC(oxmARPSHA, mac, mask)
}

// ARPTargetMAC matches those bits of the target's MAC (arp_tha) that are set in mask; a nil mask is all of them.
func (m Match) ARPTargetMAC(mac, mask net.HardwareAddr) Match {
	return m.EthType(ethTypeARP).withMAC(oxmARPTHA, mac, mask)
}

// SrcPort matches the TCP, UDP or SCTP source port; the protocol must already be matched.
func (m Match) SrcPort(p uint16) Match { return m.SrcPortMasked(p, math.MaxUint16) }

// SrcPortMasked matches those bits of the source port that are set in mask.
func (m Match) SrcPortMasked(p, mask uint16) Match {
	return m.withPort(p, mask, oxmTCPSrc, oxmUDPSrc, oxmSCTPSrc)
}

// DstPort matches the TCP, UDP or SCTP destination port; the protocol must already be matched.
func (m Match) DstPort(p uint16) Match { return m.DstPortMasked(p, math.MaxUint16) }

// DstPortMasked matches those bits of the destination port that are set in mask.
func (m Match) DstPortMasked(p, mask uint16) Match {
	return m.withPort(p, mask, oxmTCPDst, oxmUDPDst, oxmSCTPDst)
}

// Flags of a TCP segment for Match.TCPFlags.
const (
	TCPFin uint16 = 1 << iota
	TCPSyn
	TCPRst
	TCPPsh
	TCPAck
)

// TCPFlags matches those flags of a TCP segment that are set in mask; TCP must already be matched. It is a field of its own
// kind on the wire, which comes after all others.
func (m Match) TCPFlags(v, mask uint16) Match {
	if proto, _ := m.value(oxmIPProto); proto != "\x06" {
		return m.wrong("TCP flags need tcp")
	}
	if mask == 0 {
		return m
	}
	h, body := oxmTCPFlags, binary.BigEndian.AppendUint16([]byte(idONF), v&mask)
	if mask != math.MaxUint16 {
		h = h&^0xff | 0x100 | 8 // The experimenter's id is not masked, so the body is no multiple of the field.
		body = binary.BigEndian.AppendUint16(body, mask)
	}
	entry := string(append(binary.BigEndian.AppendUint32(nil, uint32(h)), body...))
	for rest := m.tlv; ; {
		old, _, next, ok := nextEntry(rest)
		switch {
		case !ok:
			return Match{tlv: m.tlv + entry, problem: m.problem}
		case old.identity() == h.identity() && rest != entry:
			return m.wrong("tcp_flags is matched twice")
		case old.identity() == h.identity():
			return m
		}
		rest = next
	}
}

// LaterFragment matches all fragments of an IP packet but the first. They have no ports, so the switch refuses a match of both.
func (m Match) LaterFragment() Match { return m.with(nxmIPFrag, "\x03", "") }

// FirstFragment matches the first fragment of an IP packet that has more. One that is too short for all of its
// transport header has port 0 for the switch, whatever it says.
func (m Match) FirstFragment() Match { return m.with(nxmIPFrag, "\x01", "") }

// Reg matches register n (0 to 15).
func (m Match) Reg(n int, v uint32) Match { return m.RegMasked(n, v, math.MaxUint32) }

// RegMasked matches those bits of register n that are set in mask.
func (m Match) RegMasked(n int, v, mask uint32) Match {
	if n < 0 || n >= registers {
		return m.wrong("register %d does not exist", n)
	}
	return m.with32(nxmReg(n), v, mask)
}

// TunID matches the tunnel's id: the VNI of VXLAN and Geneve, the key of GRE.
func (m Match) TunID(v uint64) Match {
	return m.with(oxmTunID, string(binary.BigEndian.AppendUint64(nil, v)), "")
}

// TunSrc matches the outer source address of a tunnelled packet.
func (m Match) TunSrc(a netip.Addr) Match { return m.withAddr(nxmTunSrc, nxmTun6Src, a) }

// TunDst matches the outer destination address of a tunnelled packet.
func (m Match) TunDst(a netip.Addr) Match { return m.withAddr(nxmTunDst, nxmTun6Dst, a) }

// PktMark matches those bits of the packet's mark that are set in mask.
func (m Match) PktMark(v, mask uint32) Match { return m.with32(nxmPktMark, v, mask) }

// ConjID matches the id of a conjunction that the packet satisfied.
func (m Match) ConjID(id uint32) Match { return m.with32(nxmConjID, id, math.MaxUint32) }

// CTState matches those connection tracking states that are set in mask (CTNew …).
func (m Match) CTState(value, mask uint32) Match { return m.with32(nxmCTState, value, mask) }

// CTZone matches the connection tracking zone.
func (m Match) CTZone(zone uint16) Match { return m.with16(nxmCTZone, zone) }

// CTMark matches those bits of the connection's mark that are set in mask.
func (m Match) CTMark(v, mask uint32) Match { return m.with32(nxmCTMark, v, mask) }

func (m Match) wrong(format string, args ...any) Match {
	if m.problem != "" {
		m.problem += "; "
	}
	m.problem += fmt.Sprintf(format, args...)
	return m
}

func (m Match) with16(h oxm, v uint16) Match {
	return m.with(h, string(binary.BigEndian.AppendUint16(nil, v)), "")
}

func (m Match) with32(h oxm, v, mask uint32) Match {
	body := string(binary.BigEndian.AppendUint32(nil, v))
	if mask == math.MaxUint32 {
		return m.with(h, body, "")
	}
	return m.with(h, body, string(binary.BigEndian.AppendUint32(nil, mask)))
}

func (m Match) withPort(p, mask uint16, tcp, udp, sctp oxm) Match {
	proto, _ := m.value(oxmIPProto)
	h := tcp
	switch proto {
	case "\x06":
	case "\x11":
		h = udp
	case "\x84":
		h = sctp
	default:
		return m.wrong("port %d needs tcp, udp or sctp", p)
	}
	return m.with(h, string(binary.BigEndian.AppendUint16(nil, p)), string(binary.BigEndian.AppendUint16(nil, mask)))
}

func (m Match) withAddr(h4, h6 oxm, a netip.Addr) Match {
	switch {
	case a.Is4():
		return m.with(h4, string(a.AsSlice()), "")
	case a.Is6() && !a.Is4In6() && a.Zone() == "":
		return m.with(h6, string(a.AsSlice()), "")
	}
	return m.wrong("invalid address %q", a)
}

func (m Match) withPrefix(h oxm, p netip.Prefix) Match {
	if !p.IsValid() || p.Addr().Is4In6() {
		return m.wrong("invalid prefix %q", p)
	}
	value := p.Addr().AsSlice()
	if len(value) != h.length() {
		return m.wrong("prefix %s is of the wrong family", p)
	}
	return m.with(h, string(value), string(net.CIDRMask(p.Bits(), len(value)*8)))
}

func (m Match) withMAC(h oxm, mac, mask net.HardwareAddr) Match {
	if len(mac) != 6 || mask != nil && len(mask) != 6 {
		return m.wrong("MAC %q with mask %q is not an Ethernet address", mac, mask)
	}
	return m.with(h, string(mac), string(mask))
}

// orInvalid keeps a forgotten mask from meaning "all of it".
func orInvalid(mask net.HardwareAddr) net.HardwareAddr {
	if mask == nil {
		return net.HardwareAddr{}
	}
	return mask
}

// with puts one entry in its canonical place and form; an empty mask is a full one. Matching a field again is the same
// if it says the same, and a problem otherwise.
func (m Match) with(h oxm, value, mask string) Match {
	entry := appendEntry(nil, h, value, mask)
	if len(entry) == 0 {
		return m
	}
	var out []byte
	for rest := m.tlv; ; {
		old, _, next, ok := nextEntry(rest)
		if ok && old.identity() == h.identity() {
			if rest[:len(rest)-len(next)] != string(entry) {
				return m.wrong("%s is matched twice", fields[h.rank()].name)
			}
			return m
		}
		if !ok || old.rank() > h.rank() {
			out = slices.Concat([]byte(m.tlv[:len(m.tlv)-len(rest)]), entry, []byte(rest))
			return Match{tlv: string(out), problem: m.problem}
		}
		rest = next
	}
}

// value returns the unmasked value of a field.
func (m Match) value(h oxm) (string, bool) {
	for rest := m.tlv; ; {
		old, body, next, ok := nextEntry(rest)
		if !ok {
			return "", false
		}
		if old == h {
			return body, true
		}
		rest = next
	}
}
