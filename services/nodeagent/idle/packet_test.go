package idle

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// wire is an IPv4 packet from 10.128.0.20:4000 to 172.30.0.10:80 with what follows the
// ports.
func wire(protocol byte, options int, rest ...byte) []byte {
	b := make([]byte, 20+options, 20+options+4+len(rest))
	b[0], b[9] = 0x40|byte((20+options)/4), protocol
	copy(b[12:], []byte{10, 128, 0, 20, 172, 30, 0, 10})
	return append(append(b, 0x0f, 0xa0, 0, 80), rest...)
}

// tcp is what follows the ports of a TCP packet.
func tcp(sequence uint32, flags byte) []byte {
	b := make([]byte, 16)
	binary.BigEndian.PutUint32(b, sequence)
	b[8], b[9] = 0x50, flags
	return b
}

// sctp is what follows the ports of an SCTP packet.
func sctp(chunk byte, tag uint32) []byte {
	b := make([]byte, 16)
	b[8] = chunk
	binary.BigEndian.PutUint32(b[12:], tag)
	return b
}

func fragment(b []byte, flagsAndOffset uint16) []byte {
	binary.BigEndian.PutUint16(b[6:], flagsAndOffset)
	return b
}

func TestWhatMayWaitIsReadAndNothingElse(t *testing.T) {
	from, to := netip.MustParseAddrPort("10.128.0.20:4000"), netip.MustParseAddrPort("172.30.0.10:80")
	of := func(p proxy.Protocol, start uint32) packet { return packet{flow{p, from, to}, start} }
	for _, c := range []struct {
		name string
		wire []byte
		want packet
		err  error
	}{
		{"SYN", wire(6, 0, tcp(7, 0x02)...), of(proxy.TCP, 7), nil},
		{"SYN behind options of IP", wire(6, 40, tcp(7, 0x02)...), of(proxy.TCP, 7), nil},
		{"SYN that offers ECN", wire(6, 0, tcp(7, 0xc2)...), of(proxy.TCP, 7), nil},
		{"SYN and ACK", wire(6, 0, tcp(7, 0x12)...), packet{}, errNoStart},
		{"ACK", wire(6, 0, tcp(7, 0x10)...), packet{}, errNoStart},
		{"RST", wire(6, 0, tcp(7, 0x04)...), packet{}, errNoStart},
		{"half a TCP header", wire(6, 0, tcp(7, 0x02)[:10]...), packet{}, errNoPacket},
		{"datagram", wire(17, 0, 0, 8, 0, 0), of(proxy.UDP, 0), nil},
		{"first fragment of a datagram", fragment(wire(17, 0, 0, 8, 0, 0), 0x2000), of(proxy.UDP, 0), nil},
		{"second fragment", fragment(wire(17, 0, 0, 8, 0, 0), 0x0001), packet{}, errNoPacket},
		{"half a UDP header", wire(17, 0, 0), packet{}, errNoPacket},
		{"INIT", wire(132, 0, sctp(1, 9)...), of(proxy.SCTP, 9), nil},
		{"DATA", wire(132, 0, sctp(0, 9)...), packet{}, errNoStart},
		{"ICMP", wire(1, 0, tcp(7, 0x02)...), packet{}, errNoPacket},
		{"nothing", nil, packet{}, errNoPacket},
		{"IPv6", append([]byte{0x60}, make([]byte, 60)...), packet{}, errNoPacket},
		{"a header that is longer than the packet", append([]byte{0x4f}, make([]byte, 30)...), packet{}, errNoPacket},
		{"a header that is too short", append([]byte{0x41}, make([]byte, 60)...), packet{}, errNoPacket},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parse(c.wire)
			if got != c.want || !errors.Is(err, c.err) {
				t.Errorf("got %+v, %v, want %+v, %v", got, err, c.want, c.err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, b := range [][]byte{
		wire(6, 0, tcp(7, 0x02)...), wire(6, 40, tcp(7, 0x12)...), wire(17, 4, 0, 8, 0, 0), wire(132, 0, sctp(1, 9)...), {0x45}, nil,
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parse(b)
		if err != nil {
			if p != (packet{}) {
				t.Errorf("%x: an error with %+v", b, p)
			}
			return
		}
		if !p.from.IsValid() || !p.to.IsValid() || p.protocol == "" {
			t.Errorf("%x: got %+v", b, p)
		}
		// What the kernel cuts off is never looked at.
		if len(b) > headBytes {
			if cut, err := parse(b[:headBytes]); err != nil || cut != p {
				t.Errorf("%x: cut to %d bytes %+v, %v, whole %+v", b, headBytes, cut, err, p)
			}
		}
	})
}
