package openflow

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
)

const (
	typePacketIn  = 10
	packetInFixed = 16 // Buffer id to cookie, before the match.
	// copiesWaiting is how many copies wait for whoever takes them. What comes then is lost, and counted: nothing
	// that a packet causes may hold up the answers to our own questions.
	copiesWaiting = 1024
)

// A PacketIn is a copy of a packet that a flow has sent (Copy).
type PacketIn struct {
	Table  uint8  // Of the flow.
	Cookie uint64 // Of the flow.
	Packet []byte // From its Ethernet header on.

	metadata Match
}

// InPort is the port by which the packet came in.
func (p PacketIn) InPort() uint32 {
	v, _ := p.metadata.value(oxmInPort)
	return uint32(number(v))
}

// Reg is what was in register n, 0 to 15, at the flow.
func (p PacketIn) Reg(n int) uint32 {
	v, _ := p.metadata.value(nxmReg(n))
	return uint32(number(v))
}

// Copies is the copies of packets that the switch sends, once Listen has been called; one reader takes them. It is
// closed when the connection has ended.
func (c *Conn) Copies() <-chan PacketIn { return c.copies }

// CopiesLost is how many copies were thrown away because nobody took them.
func (c *Conn) CopiesLost() uint64 { return c.lost.Load() }

// Listen says what the switch does with IP fragments, which holds for the bridge until it is set again or ovs-vswitchd
// restarts; and from now on the switch sends copies of packets to this connection.
func (c *Conn) Listen(ctx context.Context, mode Fragments) error {
	if err := c.configure(ctx, mode, math.MaxUint16); err != nil {
		return fmt.Errorf("listen for copies of packets: %w", err)
	}
	return nil
}

// copied hands over a copy, or throws it away.
func (c *Conn) copied(body string) {
	p, err := decodePacketIn(body)
	if err != nil {
		c.lost.Add(1)
		return
	}
	select {
	case c.copies <- p:
	default:
		c.lost.Add(1)
	}
}

func decodePacketIn(body string) (PacketIn, error) {
	if len(body) < packetInFixed+8 {
		return PacketIn{}, errTruncated
	}
	match := body[packetInFixed:]
	length := int(number(match[2:4]))
	padded := (length + 7) / 8 * 8
	if number(match[:2]) != 1 || length < 4 || padded+2 > len(match) {
		return PacketIn{}, fmt.Errorf("match of %d bytes: %w", length, errTruncated)
	}
	return PacketIn{
		Table: body[7], Cookie: binary.BigEndian.Uint64([]byte(body[8:16])),
		Packet: []byte(match[padded+2:]), metadata: decodeMatch(match[4:length]),
	}, nil
}
