package openflow

// splitActions cuts a list of actions into one Action each. It is false when the list is cut short or a length is
// impossible; what is left then is the last action, as raw bytes.
func splitActions(wire string) ([]Action, bool) {
	return appendSplit(make([]Action, 0, 4), wire, false)
}

// appendSplit cuts a list of actions or of instructions.
func appendSplit(to []Action, wire string, instruction bool) ([]Action, bool) {
	for len(wire) > 0 {
		if len(wire) < 8 {
			return append(to, Action{instruction: instruction, wire: wire}), false
		}
		length := int(wire[2])<<8 | int(wire[3])
		if length < 8 || length%8 != 0 || length > len(wire) {
			return append(to, Action{instruction: instruction, wire: wire}), false
		}
		to = append(to, Action{instruction: instruction, wire: wire[:length]})
		wire = wire[length:]
	}
	return to, true
}

// applyHeader is the part of an apply-actions instruction before its actions.
const applyHeader = 8

// decodeInstructions returns what a flow does: the actions that it applies, then its other instructions as they come.
func decodeInstructions(wire string) []Action {
	var actions []Action
	instructions, _ := appendSplit(nil, wire, true)
	for _, in := range instructions {
		if len(in.wire) >= applyHeader && in.wire[0] == 0 && in.wire[1] == instructionApply &&
			len(in.wire) == int(in.wire[2])<<8|int(in.wire[3]) {
			if actions == nil {
				actions = make([]Action, 0, 4)
			}
			actions, _ = appendSplit(actions, in.wire[applyHeader:], false)
			continue
		}
		actions = append(actions, in)
	}
	return actions
}

// appendInstructions appends what a flow does: one apply-actions for all of its actions, then its instructions.
func appendInstructions(b []byte, actions []Action) []byte {
	start := len(b)
	b = append(b, 0, instructionApply, 0, 0, 0, 0, 0, 0)
	for _, a := range actions {
		if !a.instruction {
			b = append(b, a.wire...)
		}
	}
	if length := len(b) - start; length == applyHeader {
		b = b[:start]
	} else {
		b[start+2], b[start+3] = byte(length>>8), byte(length)
	}
	for _, a := range actions {
		if a.instruction {
			b = append(b, a.wire...)
		}
	}
	return b
}
