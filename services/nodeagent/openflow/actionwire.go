package openflow

// splitActions cuts a list of actions into one Action each. It is false when the list is cut short or a length is
// impossible; what is left then is the last action, as raw bytes.
func splitActions(wire string) ([]Action, bool) { return appendSplit(make([]Action, 0, 4), wire) }

func appendSplit(to []Action, wire string) ([]Action, bool) {
	for len(wire) > 0 {
		length := 0
		if len(wire) >= 8 {
			length = int(wire[2])<<8 | int(wire[3])
		}
		if length < 8 || length%8 != 0 || length > len(wire) {
			return append(to, Action{wire: wire}), false
		}
		to = append(to, Action{wire: wire[:length]})
		wire = wire[length:]
	}
	return to, true
}

// applyHeader is the part of an apply-actions instruction before its actions.
const applyHeader = 8

// appendDecoded appends what a flow does: the actions that it applies, then its other instructions as they come. What is
// cut short becomes one last, unknown action.
func appendDecoded(to []Action, wire string) []Action {
	for len(wire) > 0 {
		length := len(wire)
		if len(wire) >= 4 {
			length = int(wire[2])<<8 | int(wire[3])
		}
		if length < 4 || length > len(wire) {
			return append(to, Action{kind: instruction, wire: wire})
		}
		if wire[0] == 0 && wire[1] == instructionApply && length >= applyHeader {
			to, _ = appendSplit(to, wire[applyHeader:length])
		} else {
			to = append(to, Action{kind: instruction, wire: wire[:length]})
		}
		wire = wire[length:]
	}
	return to
}

// appendInstructions appends what a flow does: one apply-actions for all of its actions, then its instructions.
func appendInstructions(b []byte, actions []Action) []byte {
	start := len(b)
	b = append(b, 0, instructionApply, 0, 0, 0, 0, 0, 0)
	for _, a := range actions {
		if a.kind == ordinary {
			b = append(b, a.wire...)
		}
	}
	if length := len(b) - start; length == applyHeader {
		b = b[:start]
	} else {
		b[start+2], b[start+3] = byte(length>>8), byte(length)
	}
	for _, a := range actions {
		if a.kind == instruction {
			b = append(b, a.wire...)
		}
	}
	return b
}
