// Package frame reads the copies of packets that flows send to the agent: Ethernet, and
// IPv4 in it.
//
// It owns where things stand in these headers, and promises to refuse what is no whole
// header. It must not know what the packets are copied for.
package frame

import (
	"encoding/binary"
	"net/netip"
)

// Sizes and places of IEEE 802.3 and RFC 791.
const (
	ethernetHeader = 14
	etherType      = 12
	etherTypeIPv4  = 0x0800
	ipv4Header     = 20
	offsetBits     = 0x1fff
)

// Numbers of protocols (IANA).
const (
	ICMP = 1
	TCP  = 6
	UDP  = 17
	SCTP = 132
)

// IPv4 is a packet, or a fragment of one.
type IPv4 struct {
	Source, Destination netip.Addr
	Protocol            byte
	// First says that the payload is the beginning of the packet's.
	First bool
	// Payload is what comes after the header, without what Ethernet has added to a short
	// packet. It is a part of the frame.
	Payload []byte
}

// Read reads a frame. It refuses one that has no whole header of IPv4, or less than the
// header says.
func Read(frame []byte) (IPv4, bool) {
	if len(frame) < ethernetHeader+ipv4Header || binary.BigEndian.Uint16(frame[etherType:]) != etherTypeIPv4 {
		return IPv4{}, false
	}
	packet := frame[ethernetHeader:]
	header, total := int(packet[0]&0xf)*4, int(binary.BigEndian.Uint16(packet[2:]))
	if packet[0]>>4 != 4 || header < ipv4Header || total < header || total > len(packet) {
		return IPv4{}, false
	}
	return IPv4{
		Source:      netip.AddrFrom4([4]byte(packet[12:16])),
		Destination: netip.AddrFrom4([4]byte(packet[16:20])),
		Protocol:    packet[9],
		First:       binary.BigEndian.Uint16(packet[6:])&offsetBits == 0,
		Payload:     packet[header:total],
	}, true
}
