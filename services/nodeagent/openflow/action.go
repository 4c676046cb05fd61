package openflow

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
)

// An Action is one thing that a flow does: an OpenFlow action, or an instruction such as goto_table. It is a value, and
// two actions are the same if and only if they are ==.
//
// A constructor given something that it cannot express keeps the problem; Flow.Check reports it.
type Action struct {
	kind actionKind
	wire string // As on the wire, with its padding; what is wrong, when kind is invalid.
}

type actionKind uint8

const (
	ordinary    actionKind = iota // Goes into an apply-actions instruction.
	instruction                   // Is an instruction of its own.
	invalid                       // Could not be made.
)

func wrongAction(format string, args ...any) Action {
	return Action{kind: invalid, wire: fmt.Sprintf(format, args...)}
}

// problem says what a constructor could not take.
func (a Action) problem() string {
	if a.kind == invalid {
		return a.wire
	}
	return ""
}

// Types of actions on the wire.
const (
	actionOutput       = 0
	actionGroup        = 22
	actionDecTTL       = 24
	actionSetField     = 25
	actionExperimenter = 0xffff

	nxResubmit      = 1
	nxMove          = 6
	nxLoad          = 7
	nxNote          = 8
	nxMultipath     = 10
	nxResubmitTable = 14
	nxOutputReg     = 15
	nxConjunction   = 34
	nxCT            = 35
	nxNAT           = 36
	nxCTClear       = 43
)

// Types of instructions on the wire.
const (
	instructionGoto  = 1
	instructionApply = 4
)

// What Multipath hashes, and how it picks a link: by the highest random weight.
const (
	hashL3L4UDP  = 3
	multipathHRW = 2
)

// tableNone says "no table" to resubmit and ct.
const tableNone = 255

// Output sends the packet out of a port, or a reserved port (PortLocal …).
func Output(port uint32) Action {
	b := []byte{0, actionOutput, 0, 16}
	b = binary.BigEndian.AppendUint32(b, port)
	return Action{wire: string(append(b, make([]byte, 8)...))}
}

// Normal lets the switch forward by its own MAC learning.
func Normal() Action { return Output(PortNormal) }

// OutputReg sends the packet out of the port whose number is in register n.
func OutputReg(n int) Action {
	if a := checkRegister(n); a.kind == invalid {
		return a
	}
	b := binary.BigEndian.AppendUint16(nicira(nxOutputReg, 24), bitRange(0, 32))
	b = binary.BigEndian.AppendUint32(b, uint32(nxmReg(n)))
	b = append(b, 0xff, 0xff) // Not truncated when the port is the controller: what ovs-ofctl writes.
	return Action{wire: string(append(b, make([]byte, 6)...))}
}

// Goto continues in a later table. It must be the last action.
func Goto(table uint8) Action {
	return Action{kind: instruction, wire: string([]byte{0, instructionGoto, 0, 8, table, 0, 0, 0})}
}

// LoadReg writes v to register n (0 to 15).
func LoadReg(n int, v uint32) Action {
	if a := checkRegister(n); a.kind == invalid {
		return a
	}
	return load(nxmReg(n), 0, 32, uint64(v))
}

// LoadCTMark writes v to the connection's mark; for the actions inside of CT.
func LoadCTMark(v uint32) Action { return load(nxmCTMark, 0, 32, uint64(v)) }

// LoadTunID writes v to the tunnel's id.
func LoadTunID(v uint32) Action { return load(nxmTunID, 0, 32, uint64(v)) }

// MoveRegToTunID copies register n to the tunnel's id, which is how a VNID goes on the wire.
func MoveRegToTunID(n int) Action {
	if a := checkRegister(n); a.kind == invalid {
		return a
	}
	return move(nxmReg(n), nxmTunID, 32)
}

// MoveTunIDToReg copies the tunnel's id to register n.
func MoveTunIDToReg(n int) Action {
	if a := checkRegister(n); a.kind == invalid {
		return a
	}
	return move(nxmTunID, nxmReg(n), 32)
}

// MoveReg copies register from to register to.
func MoveReg(from, to int) Action {
	if a := checkRegister(from); a.kind == invalid {
		return a
	}
	if a := checkRegister(to); a.kind == invalid {
		return a
	}
	return move(nxmReg(from), nxmReg(to), 32)
}

// SetTunDst says to which node the tunnel port sends the packet.
func SetTunDst(a netip.Addr) Action {
	switch {
	case a.Is4():
		return setField(nxmTunDst, a.AsSlice())
	case a.Is6() && !a.Is4In6() && a.Zone() == "":
		return setField(nxmTun6Dst, a.AsSlice())
	}
	return wrongAction("set_field: invalid tunnel address %q", a)
}

// SetEthDst writes the destination MAC.
func SetEthDst(mac net.HardwareAddr) Action { return setMAC(oxmEthDst, mac) }

// SetEthSrc writes the source MAC.
func SetEthSrc(mac net.HardwareAddr) Action { return setMAC(oxmEthSrc, mac) }

// SetPktMark writes the packet's mark, which iptables sees on the bridge's internal ports.
func SetPktMark(v uint32) Action { return setField(nxmPktMark, binary.BigEndian.AppendUint32(nil, v)) }

// CTClear forgets that the packet has been tracked: to the flows after it, it has not.
func CTClear() Action { return Action{wire: string(append(nicira(nxCTClear, 16), 0, 0, 0, 0, 0, 0))} }

// DecTTL takes one from the TTL, and drops the packet when none is left.
func DecTTL() Action { return Action{wire: "\x00\x18\x00\x08\x00\x00\x00\x00"} }

// Note carries bytes that mean nothing to the switch. It is padded with zeros to 6, 14, 22 … bytes.
func Note(note []byte) Action {
	length := (10 + len(note) + 7) / 8 * 8
	if len(note) == 0 {
		length = 16
	}
	if length > 0xfff8 {
		return wrongAction("note of %d bytes is too long", len(note))
	}
	b := append(nicira(nxNote, length), note...)
	return Action{wire: string(append(b, make([]byte, length-len(b))...))}
}

// Resubmit looks the packet up in a table, and then goes on with the next action.
func Resubmit(table uint8) Action {
	b := binary.BigEndian.AppendUint16(nicira(nxResubmitTable, 16), 0xfff8) // In port unchanged.
	return Action{wire: string(append(b, table, 0, 0, 0))}
}

// Group hands the packet to a group.
func Group(id uint32) Action {
	return Action{wire: string(binary.BigEndian.AppendUint32([]byte{0, actionGroup, 0, 8}, id))}
}

// Conjunction marks the flow as clause number clause (1 to dimensions) of conjunction id, which has 2 to 64 dimensions.
func Conjunction(id uint32, clause, dimensions uint8) Action {
	if dimensions < 2 || dimensions > 64 || clause < 1 || clause > dimensions {
		return wrongAction("conjunction clause %d/%d does not exist", clause, dimensions)
	}
	b := append(nicira(nxConjunction, 16), clause-1, dimensions)
	return Action{wire: string(binary.BigEndian.AppendUint32(b, id))}
}

// Multipath writes one of 0 to links-1 to register n, 1 to 65536 links: the same for all packets of a connection, either
// way, by a hash of addresses, protocol and ports. One link more or less moves few connections to another.
func Multipath(links, n int) Action {
	if links < 1 || links > math.MaxUint16+1 {
		return wrongAction("multipath of %d links", links)
	}
	if a := checkRegister(n); a.kind == invalid {
		return a
	}
	b := binary.BigEndian.AppendUint16(nicira(nxMultipath, 32), hashL3L4UDP)
	b = append(b, 0, 0, 0, 0) // Basis 0, padding.
	b = binary.BigEndian.AppendUint16(b, multipathHRW)
	b = binary.BigEndian.AppendUint16(b, uint16(links-1))
	b = append(b, 0, 0, 0, 0, 0, 0) // No argument, padding.
	b = binary.BigEndian.AppendUint16(b, bitRange(0, 32))
	return Action{wire: string(binary.BigEndian.AppendUint32(b, uint32(nxmReg(n))))}
}

// nicira starts an Open vSwitch extension action that is length bytes long in all.
func nicira(subtype uint16, length int) []byte {
	b := make([]byte, 0, length)
	b = append(b, 0xff, 0xff, byte(length>>8), byte(length))
	b = binary.BigEndian.AppendUint32(b, experimenterNX)
	return binary.BigEndian.AppendUint16(b, subtype)
}

// bitRange is how a part of a field is written in an action: offset and number of bits.
func bitRange(offset, bits int) uint16 { return uint16(offset)<<6 | uint16(bits-1) }

func load(h oxm, offset, bits int, v uint64) Action {
	b := binary.BigEndian.AppendUint16(nicira(nxLoad, 24), bitRange(offset, bits))
	b = binary.BigEndian.AppendUint32(b, uint32(h))
	return Action{wire: string(binary.BigEndian.AppendUint64(b, v))}
}

func move(from, to oxm, bits uint16) Action {
	b := binary.BigEndian.AppendUint16(nicira(nxMove, 24), bits)
	b = append(b, 0, 0, 0, 0) // Both from bit 0.
	b = binary.BigEndian.AppendUint32(b, uint32(from))
	return Action{wire: string(binary.BigEndian.AppendUint32(b, uint32(to)))}
}

func setMAC(h oxm, mac net.HardwareAddr) Action {
	if len(mac) != 6 {
		return wrongAction("set_field: MAC %q is not an Ethernet address", mac)
	}
	return setField(h, mac)
}

func setField(h oxm, value []byte) Action {
	length := 8 + len(value)
	padded := (length + 7) / 8 * 8
	b := []byte{0, actionSetField, byte(padded >> 8), byte(padded)}
	b = binary.BigEndian.AppendUint32(b, uint32(h))
	return Action{wire: string(pad8(append(b, value...), length))}
}

func checkRegister(n int) Action {
	if n < 0 || n >= registers {
		return wrongAction("register %d does not exist", n)
	}
	return Action{}
}

// gotoTable returns where the flow continues, if the action is a goto_table.
func (a Action) gotoTable() (table uint8, ok bool) {
	if a.kind == instruction && len(a.wire) == 8 && a.wire[:4] == "\x00\x01\x00\x08" {
		return a.wire[4], true
	}
	return 0, false
}
