package idle

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// headBytes is how much of a packet is read: the longest IPv4 header (60) and a TCP
// header without options (20).
const headBytes = 80

// Sizes and places in headers: RFC 791, 793, 768, 4960.
const (
	minIPv4     = 20
	minTCP      = 20
	minUDP      = 8
	minSCTP     = 13 // the common header, and the type of the first chunk
	protoTCP    = 6
	protoUDP    = 17
	protoSCTP   = 132
	tcpFlags    = 13
	tcpSYN      = 0x02
	tcpMeaning  = 0x17 // FIN, SYN, RST and ACK, as iptables' --syn
	chunkINIT   = 1
	offsetBits  = 0x1fff
	fragmentPos = 6
)

var (
	errNoPacket = errors.New("it is no whole IPv4 header of TCP, UDP or SCTP")
	errNoStart  = errors.New("it does not begin a connection")
)

// flow is whose packet it is.
type flow struct {
	protocol proxy.Protocol
	from, to netip.AddrPort
}

// packet is what is read of one.
type packet struct {
	flow
	// start is what two attempts to connect differ in, and repetitions of one do not:
	// the first sequence number. 0 for UDP, which has no connections.
	start uint32
}

// parse reads the beginning of a packet that may wait: a UDP datagram, or the packet
// that begins a connection.
func parse(b []byte) (packet, error) {
	if len(b) < minIPv4 || b[0]>>4 != 4 {
		return packet{}, errNoPacket
	}
	length := int(b[0]&0xf) * 4
	fragment := binary.BigEndian.Uint16(b[fragmentPos:]) & offsetBits
	if length < minIPv4 || len(b) < length || fragment != 0 {
		return packet{}, errNoPacket
	}
	rest := b[length:]
	p := packet{}
	switch number := b[9]; {
	case number == protoTCP && len(rest) >= minTCP:
		p.protocol, p.start = proxy.TCP, binary.BigEndian.Uint32(rest[4:])
		if rest[tcpFlags]&tcpMeaning != tcpSYN {
			return packet{}, errNoStart
		}
	case number == protoUDP && len(rest) >= minUDP:
		p.protocol = proxy.UDP
	case number == protoSCTP && len(rest) >= minSCTP:
		// The initiate tag comes after the chunk's four bytes; repetitions have the same.
		p.protocol = proxy.SCTP
		if len(rest) >= 20 {
			p.start = binary.BigEndian.Uint32(rest[16:])
		}
		if rest[12] != chunkINIT {
			return packet{}, errNoStart
		}
	default:
		return packet{}, errNoPacket
	}
	p.from = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), binary.BigEndian.Uint16(rest))
	p.to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), binary.BigEndian.Uint16(rest[2:]))
	return p, nil
}
