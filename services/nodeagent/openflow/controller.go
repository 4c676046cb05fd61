package openflow

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Properties of Open vSwitch's controller action, in the order in which it writes them.
const (
	nxController = 37

	controllerMaxLen   = 0
	controllerID       = 1
	controllerReason   = 2
	controllerUserdata = 3
	controllerPause    = 4
	controllerMeter    = 5
)

// Copy sends a copy of the packet to whoever listens for copies (Conn.Copies), as far as the meter lets it pass: the packet
// itself goes on with the next action, whether or not its copy is dropped. The copy is whole: Open vSwitch takes a
// length, and heeds none since it buffers no packets (2.7). A flow that comes before its meter is taken, and is not bounded
// by the meter when that comes: see KeepMeters.
func Copy(meter uint32) Action {
	if meter == 0 || meter > maxMeter {
		return wrongAction("copy by meter %d", meter)
	}
	b := append(nicira(nxController, 24), 0, 0, 0, 0, 0, 0, 0, controllerMeter, 0, 8)
	return Action{wire: string(binary.BigEndian.AppendUint32(b, meter))}
}

// Copies reports whether the flow sends copies.
func (f Flow) Copies() bool {
	return slices.ContainsFunc(f.Actions, func(a Action) bool {
		return a.kind == ordinary && isNicira(a.wire) && number(a.wire[8:10]) == nxController
	})
}

// controllerText writes the action as ovs-ofctl does: "controller(meter_id=1)".
func controllerText(body string) string {
	if len(body) < 6 {
		return ""
	}
	var parts []string
	for body = body[6:]; len(body) > 0; {
		kind, value, rest, ok := nextProperty(body)
		if !ok {
			return ""
		}
		part := controllerPart(kind, value)
		if part == "" {
			return ""
		}
		parts, body = append(parts, part), rest
	}
	return "controller(" + strings.Join(parts, ",") + ")"
}

func controllerPart(kind uint64, value string) string {
	switch {
	case kind == controllerMaxLen && len(value) == 4:
		return fmt.Sprintf("max_len=%d", number(value[:2]))
	case kind == controllerID && len(value) == 4:
		return fmt.Sprintf("id=%d", number(value[:2]))
	case kind == controllerReason && len(value) == 4:
		return fmt.Sprintf("reason=%d", value[0])
	case kind == controllerUserdata && len(value) > 0:
		return "userdata=" + strings.TrimPrefix(noteText(value), "note:")
	case kind == controllerPause && len(value) == 0:
		return "pause"
	case kind == controllerMeter && len(value) == 4:
		return fmt.Sprintf("meter_id=%d", number(value))
	}
	return ""
}

// nextProperty splits the first property, with its padding, off a list. It is false where the list is cut short.
func nextProperty(list string) (kind uint64, value, rest string, ok bool) {
	if len(list) < 4 {
		return 0, "", list, false
	}
	length := int(number(list[2:4]))
	padded := (length + 7) / 8 * 8
	if length < 4 || padded > len(list) {
		return 0, "", list, false
	}
	return number(list[:2]), list[4:length], list[padded:], true
}
