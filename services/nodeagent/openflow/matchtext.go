package openflow

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
)

// String writes the match as ovs-ofctl does: "tcp,reg0=0x2a,in_port=3,nw_src=10.128.0.0/14,tp_dst=8080". A match of
// every packet is the empty string.
func (m Match) String() string { return string(m.appendText(nil)) }

// A part is one item of a match's text and its place.
type part struct {
	place uint8
	text  string
}

// Places of what is not the text of a single known field.
const (
	placeProtocol = 12
	placeNWProto  = 58
	placeUnknown  = 250
	placeProblem  = 255
)

func (m Match) appendText(b []byte) []byte {
	parts := make([]part, 0, 8)
	ethType, _ := m.value(oxmEthType)
	proto, _ := m.value(oxmIPProto)
	name, named := protocolName(ethType, proto)
	if name != "" {
		parts = append(parts, part{placeProtocol, name})
	}
	rest := m.tlv
	for {
		h, body, next, ok := nextEntry(rest)
		if !ok {
			break
		}
		rest = next
		f := known(h, body)
		switch {
		case f == nil:
			parts = append(parts, part{placeUnknown, unknownField(h, body)})
		case f.style == silent && !h.masked():
		case f.style == protocol && !h.masked() && named:
		case f.style == protocol:
			parts = append(parts, part{placeNWProto, "nw_proto=" + value{f, h, body}.String()})
		case f.style == vlan:
			parts = append(parts, part{f.text, vlanText(h, body)})
		default:
			parts = append(parts, part{f.text, f.name + "=" + value{f, h, body}.String()})
		}
	}
	if rest != "" {
		parts = append(parts, part{placeUnknown, "unknown(" + hex.EncodeToString([]byte(rest)) + ")"})
	}
	if m.problem != "" {
		parts = append(parts, part{placeProblem, "invalid(" + m.problem + ")"})
	}
	slices.SortStableFunc(parts, func(a, b part) int { return int(a.place) - int(b.place) })
	for i, p := range parts {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, p.text...)
	}
	return b
}

func unknownField(h oxm, body string) string {
	return fmt.Sprintf("unknown(class=%#x,field=%d,masked=%t,%x)", h.class(), h.number(), h.masked(), body)
}

// protocolName is ovs-ofctl's short word for an Ethernet type and IP protocol; named is true when it tells both.
func protocolName(ethType, proto string) (name string, named bool) {
	if len(ethType) != 2 {
		return "", false
	}
	four, six := "ip", "ipv6"
	if len(proto) == 1 {
		named = true
		switch proto[0] {
		case protoICMP:
			four, six = "icmp", ""
		case protoICMPv6:
			four, six = "", "icmp6"
		case protoTCP:
			four, six = "tcp", "tcp6"
		case protoUDP:
			four, six = "udp", "udp6"
		case protoSCTP:
			four, six = "sctp", "sctp6"
		default:
			named = false
		}
	}
	switch t := binary.BigEndian.Uint16([]byte(ethType)); t {
	case ethTypeIPv4:
		if four == "" {
			return "ip", false
		}
		return four, named
	case ethTypeIPv6:
		if six == "" {
			return "ipv6", false
		}
		return six, named
	case ethTypeARP:
		return "arp", false
	case ethTypeRARP:
		return "rarp", false
	default:
		return fmt.Sprintf("dl_type=0x%04x", t), false
	}
}

// vlanText writes the three things that a VLAN match can mean.
func vlanText(h oxm, body string) string {
	v := binary.BigEndian.Uint16([]byte(body))
	switch {
	case !h.masked() && v == 0:
		return "vlan_tci=0x0000/0x1fff" // No tag; the priority in it does not matter.
	case !h.masked():
		return "dl_vlan=" + strconv.Itoa(int(v&0xfff))
	}
	return fmt.Sprintf("vlan_tci=0x%04x/0x%04x", v, binary.BigEndian.Uint16([]byte(body[2:])))
}

// A value is the body of a known field; its length has been checked.
type value struct {
	field  *field
	header oxm
	body   string
}

// String writes the value as ovs-ofctl does after "name=".
func (v value) String() string {
	body := v.body
	if v.header.class() == classExperimenter {
		body = body[4:]
	}
	mask := ""
	if v.header.masked() {
		body, mask = body[:len(body)/2], body[len(body)/2:]
	}
	return v.field.style.text(body, mask)
}

// text writes a value; an empty mask is a full one.
func (s style) text(body, mask string) string {
	switch s {
	case ethernet:
		if mask == "" {
			return net.HardwareAddr(body).String()
		}
		return net.HardwareAddr(body).String() + "/" + net.HardwareAddr(mask).String()
	case ipv4, ipv6:
		return addressText(body, mask)
	case hexadecimal:
		if mask == "" {
			return hexText(body)
		}
		return hexText(body) + "/" + hexText(mask)
	case label:
		if mask == "" {
			return fmt.Sprintf("0x%05x", number(body))
		}
		return fmt.Sprintf("0x%05x/0x%05x", number(body), number(mask))
	case ctStates:
		return flagsText(body, mask, ctStateNames[:])
	case tcpFlags:
		return flagsText(body, mask, tcpFlagNames[:])
	case fragments:
		return fragmentText(body, mask)
	}
	n := number(body)
	switch {
	case mask != "":
		return fmt.Sprintf("0x%x/0x%x", n, number(mask)) // of ports; zero has a "0x" here
	case s == port:
		return portText(uint32(n))
	case s == dscp:
		n <<= 2
	}
	return strconv.FormatUint(n, 10)
}

func addressText(body, mask string) string {
	addr, _ := netip.AddrFromSlice([]byte(body))
	if mask == "" {
		return addr.String()
	}
	ones, size := net.IPMask(mask).Size()
	if size == 0 {
		m, _ := netip.AddrFromSlice([]byte(mask))
		return addr.String() + "/" + m.String()
	}
	return addr.String() + "/" + strconv.Itoa(ones)
}

// number reads a big-endian number of up to eight bytes.
func number(body string) uint64 {
	var n uint64
	for i := range len(body) {
		n = n<<8 | uint64(body[i])
	}
	return n
}

// hexText writes a number as C's %#x: zero has no "0x".
func hexText(body string) string {
	if len(body) <= 8 {
		n := number(body)
		if n == 0 {
			return "0"
		}
		return "0x" + strconv.FormatUint(n, 16)
	}
	high := number(body[:len(body)-8])
	if high == 0 {
		return hexText(body[len(body)-8:])
	}
	return fmt.Sprintf("%#x%016x", high, number(body[len(body)-8:]))
}

var ctStateNames = [...]string{"new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"}

var tcpFlagNames = [...]string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"}

// flagsText writes flags as "+set-unset", lowest bit first, or as "set|set" when all of them matter.
func flagsText(body, mask string, names []string) string {
	set, known := number(body), uint64(1)<<len(names)-1
	care := known
	if mask != "" {
		care = number(mask)
	}
	if (set|care)&^known != 0 {
		return fmt.Sprintf("%#x/%#x", set, care)
	}
	var b []byte
	for i, name := range names {
		bit := uint64(1) << i
		sign := byte('-')
		switch {
		case care == known && set&bit == 0, care&bit == 0:
			continue
		case care == known && b == nil:
			b = append(b, name...)
			continue
		case care == known:
			sign = '|'
		case set&bit != 0:
			sign = '+'
		}
		b = append(append(b, sign), name...)
	}
	if b == nil {
		return "0"
	}
	return string(b)
}

// fragmentText writes the two fragment bits: 1 is "a fragment", 2 is "not the first one".
func fragmentText(body, mask string) string {
	care := byte(3)
	if mask != "" {
		care = mask[0]
	}
	switch [2]byte{body[0], care & 3} {
	case [2]byte{0, 3}, [2]byte{0, 1}:
		return "no"
	case [2]byte{1, 3}:
		return "first"
	case [2]byte{3, 3}, [2]byte{2, 2}:
		return "later"
	case [2]byte{1, 1}:
		return "yes"
	case [2]byte{0, 2}:
		return "not_later"
	}
	return fmt.Sprintf("%#x/%#x", body[0], care)
}

// Reserved ports that ovs-ofctl writes by name.
const (
	PortInPort     uint32 = 0xfffffff8 // Back where the packet came from.
	PortNormal     uint32 = 0xfffffffa // The switch's own learning.
	PortFlood      uint32 = 0xfffffffb // All ports that take floods, but not the one it came by.
	PortAll        uint32 = 0xfffffffc // All ports but the one it came by.
	PortController uint32 = 0xfffffffd // To the controller.
	PortLocal      uint32 = 0xfffffffe // The bridge's own interface.
	portAny        uint32 = 0xffffffff // No restriction, in requests.
)

func portText(p uint32) string {
	switch p {
	case PortInPort:
		return "IN_PORT"
	case PortNormal:
		return "NORMAL"
	case PortFlood:
		return "FLOOD"
	case PortAll:
		return "ALL"
	case PortController:
		return "CONTROLLER"
	case PortLocal:
		return "LOCAL"
	case portAny:
		return "ANY"
	}
	return strconv.FormatUint(uint64(p), 10)
}
