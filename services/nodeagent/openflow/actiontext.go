package openflow

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// String writes the action as ovs-ofctl does: "load:0x3->NXM_NX_REG2[]".
func (a Action) String() string {
	if a.kind == invalid {
		return "invalid(" + a.wire + ")"
	}
	if table, ok := a.gotoTable(); ok {
		return "goto_table:" + strconv.Itoa(int(table))
	}
	text := ""
	switch {
	case a.kind == instruction:
		text = instructionText(a.wire)
	case isNicira(a.wire):
		text = niciraText(a.wire)
	default:
		text = standardText(a.wire)
	}
	if text == "" {
		return "unknown(" + hex.EncodeToString([]byte(a.wire)) + ")"
	}
	return text
}

// appendActions writes a list of actions; an empty one is "drop".
func appendActions(b []byte, actions []Action) []byte {
	if len(actions) == 0 {
		return append(b, "drop"...)
	}
	for i, a := range actions {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, a.String()...)
	}
	return b
}

// The functions below return "" for what they do not understand.

func instructionText(wire string) string {
	if wire == "\x00\x05\x00\x08\x00\x00\x00\x00" {
		return "clear_actions"
	}
	return ""
}

func isNicira(wire string) bool {
	return len(wire) >= 16 && wire[:2] == "\xff\xff" && wire[4:8] == "\x00\x00\x23\x20"
}

func standardText(wire string) string {
	if len(wire) < 8 {
		return ""
	}
	switch number(wire[:2]) {
	case actionOutput:
		if len(wire) != 16 {
			return ""
		}
		return outputText(uint32(number(wire[4:8])), number(wire[8:10]))
	case actionGroup:
		return "group:" + strconv.FormatUint(number(wire[4:8]), 10)
	case actionDecTTL:
		return "dec_ttl"
	case actionSetField:
		return setFieldText(wire[4:])
	}
	return ""
}

// outputText writes reserved ports by name alone, all but the controller, which has a length.
func outputText(p uint32, length uint64) string {
	if p == PortController {
		return "CONTROLLER:" + strconv.FormatUint(length, 10)
	}
	if p > 0xffffff00 {
		return portText(p)
	}
	return "output:" + portText(p)
}

func setFieldText(tlv string) string {
	h, body, padding, ok := nextEntry(tlv)
	if !ok || strings.Trim(padding, "\x00") != "" {
		return ""
	}
	f := known(h, body)
	if f == nil {
		return ""
	}
	name := f.set
	if name == "" {
		name = f.name
	}
	s := f.style
	if s == silent || s == vlan || s == protocol {
		s = decimal
	}
	return "set_field:" + value{&field{style: s}, h, body}.String() + "->" + name
}

func niciraText(wire string) string {
	body := wire[10:]
	switch number(wire[8:10]) {
	case nxResubmit:
		return "resubmit:" + shortPortText(number(body[:2]))
	case nxMove:
		return moveText(body)
	case nxLoad:
		return loadText(body)
	case nxNote:
		return noteText(body)
	case nxResubmitTable:
		return resubmitText(body)
	case nxOutputReg:
		if len(body) != 14 {
			return ""
		}
		return prefixed("output:", partText(oxm(number(body[2:6])), number(body[:2])))
	case nxConjunction:
		return fmt.Sprintf("conjunction(%d,%d/%d)", number(body[2:6]), body[0]+1, body[1])
	case nxController:
		return controllerText(body)
	case nxMultipath:
		return multipathText(body)
	case nxCT:
		return ctText(body)
	case nxCTClear:
		return "ct_clear"
	case nxNAT:
		return natText(body)
	}
	return ""
}

func moveText(body string) string {
	if len(body) != 14 {
		return ""
	}
	bits := int(number(body[:2]))
	from := fieldPart(oxm(number(body[6:10])), int(number(body[2:4])), bits)
	to := fieldPart(oxm(number(body[10:14])), int(number(body[4:6])), bits)
	if from == "" || to == "" {
		return ""
	}
	return "move:" + from + "->" + to
}

func loadText(body string) string {
	if len(body) != 14 {
		return ""
	}
	return prefixed("load:"+hexText(body[6:14])+"->", partText(oxm(number(body[2:6])), number(body[:2])))
}

// multipathText knows only what Multipath writes.
func multipathText(body string) string {
	if len(body) != 22 || number(body[:2]) != hashL3L4UDP || number(body[6:8]) != multipathHRW {
		return ""
	}
	to := partText(oxm(number(body[18:22])), number(body[16:18]))
	if to == "" {
		return ""
	}
	return fmt.Sprintf("multipath(symmetric_l3l4+udp,%d,hrw,%d,%d,%s)", number(body[2:4]), number(body[8:10])+1, number(body[10:14]), to)
}

func noteText(body string) string {
	var b strings.Builder
	b.WriteString("note:")
	for i := range len(body) {
		if i > 0 {
			b.WriteByte('.')
		}
		fmt.Fprintf(&b, "%02x", body[i])
	}
	return b.String()
}

func resubmitText(body string) string {
	if p := number(body[:2]); p != 0xfff8 && body[2] == tableNone {
		return "resubmit:" + shortPortText(p)
	}
	in := ""
	if p := number(body[:2]); p != 0xfff8 {
		in = shortPortText(p)
	}
	table := ""
	if body[2] != tableNone {
		table = strconv.Itoa(int(body[2]))
	}
	return "resubmit(" + in + "," + table + ")"
}

// shortPortText writes a port of OpenFlow 1.0, whose sixteen bits Open vSwitch's older actions still have.
func shortPortText(p uint64) string {
	if p >= 0xff00 {
		p |= 0xffff0000
	}
	return portText(uint32(p))
}

// partText writes a part of a field given as bitRange.
func partText(h oxm, bitRange uint64) string {
	return fieldPart(h, int(bitRange>>6), int(bitRange&0x3f)+1)
}

// fieldPart writes bits of a field: "NXM_NX_REG0[]" for all of it, "NXM_NX_TUN_ID[0..31]" for some.
func fieldPart(h oxm, offset, bits int) string {
	name := h.longName()
	switch {
	case name == "" || bits < 1 || h.masked():
		return ""
	case offset == 0 && bits == h.length()*8:
		return name + "[]"
	case bits == 1:
		return fmt.Sprintf("%s[%d]", name, offset)
	}
	return fmt.Sprintf("%s[%d..%d]", name, offset, offset+bits-1)
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}
