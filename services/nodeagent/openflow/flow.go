package openflow

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Flow is one entry of a flow table. Its timeouts are zero and its flags are empty: our flows stay until deleted.
type Flow struct {
	Table    uint8  // 0 to 254.
	Priority uint16 // Higher wins.
	Cookie   uint64 // Opaque to the switch; says whose flow it is.
	Match    Match
	Actions  []Action // None means drop. A Goto, if any, is the last.
}

// A Key identifies a flow in a switch: adding a flow with the key of another replaces it. Keys can be compared with ==.
type Key struct {
	Table    uint8
	Priority uint16
	Match    Match
}

// Key returns what identifies the flow in the switch.
func (f Flow) Key() Key { return Key{Table: f.Table, Priority: f.Priority, Match: f.Match} }

// Equal reports whether the flows are the same: key, cookie and actions.
func (f Flow) Equal(g Flow) bool {
	return f.Table == g.Table && f.Priority == g.Priority && f.Cookie == g.Cookie && f.Match == g.Match &&
		slices.Equal(f.Actions, g.Actions)
}

// Clone returns a copy that shares no memory with the dump that f was visited in.
func (f Flow) Clone() Flow {
	f.Match.tlv = strings.Clone(f.Match.tlv)
	f.Actions = slices.Clone(f.Actions)
	for i := range f.Actions {
		f.Actions[i].wire = strings.Clone(f.Actions[i].wire)
	}
	return f
}

// Check reports every reason for which the flow cannot be sent: arguments that a builder could not take, a Goto that is
// not the last action or that does not lead forward.
func (f Flow) Check() error {
	var problems []string
	if f.Match.problem != "" {
		problems = append(problems, f.Match.problem)
	}
	if f.Table == 255 {
		problems = append(problems, "table 255 does not exist")
	}
	for i, a := range f.Actions {
		if a.kind == invalid {
			problems = append(problems, a.problem())
		}
		table, isGoto := a.gotoTable()
		if isGoto && i != len(f.Actions)-1 {
			problems = append(problems, "goto_table is not the last action")
		}
		if isGoto && table <= f.Table {
			problems = append(problems, fmt.Sprintf("goto_table:%d does not lead forward from table %d", table, f.Table))
		}
	}
	if size := flowModSize(f); size > maxMessage-bundleAddHeader {
		problems = append(problems, fmt.Sprintf("%d bytes do not fit in a message", size))
	}
	if problems == nil {
		return nil
	}
	return errors.New("flow " + strconv.Quote(f.String()) + ": " + strings.Join(problems, "; "))
}

// String writes the flow as ovs-ofctl does, without its cookie and always with its priority:
// "table=70, priority=100,ip,nw_dst=10.130.0.5 actions=load:0x3->NXM_NX_REG2[],goto_table:80".
func (f Flow) String() string {
	b := f.Key().appendText(make([]byte, 0, 160))
	b = append(b, " actions="...)
	return string(appendActions(b, f.Actions))
}

// Compare orders keys by table, then by priority with the highest first, then by match: the order in which a person
// reads a pipeline.
func (k Key) Compare(other Key) int {
	return cmp.Or(
		cmp.Compare(k.Table, other.Table),
		cmp.Compare(other.Priority, k.Priority),
		strings.Compare(k.Match.tlv, other.Match.tlv),
	)
}

// String writes the key as Flow.String does, without the actions.
func (k Key) String() string { return string(k.appendText(nil)) }

func (k Key) appendText(b []byte) []byte {
	b = append(b, "table="...)
	b = strconv.AppendUint(b, uint64(k.Table), 10)
	b = append(b, ", priority="...)
	b = strconv.AppendUint(b, uint64(k.Priority), 10)
	if k.Match != Any() {
		b = append(b, ',')
		b = k.Match.appendText(b)
	}
	return b
}
