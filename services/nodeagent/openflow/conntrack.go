package openflow

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// Conntrack is what a CT action does.
type Conntrack struct {
	Commit bool     // Remember the connection.
	Force  bool     // With Commit: forget an older connection of the other direction.
	Zone   uint16   // Connections of different zones do not know each other. Zone 0 is shared with the node's kernel.
	Table  *uint8   // Where the packet goes on once tracked; nil is nowhere.
	NAT    *NAT     // Translate; nil is do not.
	Exec   []Action // Write the connection's mark or label: LoadCTMark.
}

// NAT is an address translation inside of CT. The zero value translates what already has a translation ("nat").
type NAT struct {
	Source, Destination bool       // Which of the two to translate; not both.
	Min, Max            netip.Addr // Range of addresses, ends included; an invalid Max means Min alone.
	PortMin, PortMax    uint16     // Range of ports; zero is none. A zero PortMax means PortMin alone.
}

// Flags of the ct and nat actions on the wire.
const (
	ctCommit = 1 << 0
	ctForce  = 1 << 1

	natSource      = 1 << 0
	natDestination = 1 << 1
	natPersistent  = 1 << 2
	natHash        = 1 << 3
	natRandom      = 1 << 4

	natV4Min   = 1 << 0
	natV4Max   = 1 << 1
	natV6Min   = 1 << 2
	natV6Max   = 1 << 3
	natPortMin = 1 << 4
	natPortMax = 1 << 5
)

// CT passes the packet through connection tracking.
func CT(c Conntrack) Action {
	flags, table := uint16(0), byte(tableNone)
	if c.Commit {
		flags |= ctCommit
	}
	if c.Force {
		flags |= ctForce
	}
	if c.Table != nil {
		table = *c.Table
	}
	var inner []byte
	if c.NAT != nil {
		nat := c.NAT.action()
		if nat.kind == invalid {
			return nat
		}
		inner = append(inner, nat.wire...)
	}
	for _, a := range c.Exec {
		if a.kind != ordinary {
			return wrongAction("ct exec: %s", a)
		}
		inner = append(inner, a.wire...)
	}
	b := binary.BigEndian.AppendUint16(nicira(nxCT, 24+len(inner)), flags)
	b = append(b, 0, 0, 0, 0) // The zone is not taken from a field.
	b = binary.BigEndian.AppendUint16(b, c.Zone)
	b = append(b, table, 0, 0, 0, 0, 0)
	return Action{wire: string(append(b, inner...))}
}

func (n NAT) action() Action {
	var flags, present uint16
	var args []byte
	switch {
	case n.Source && n.Destination:
		return wrongAction("nat of both source and destination")
	case n.Source:
		flags = natSource
	case n.Destination:
		flags = natDestination
	}
	if n.Max.IsValid() && (n.Max.BitLen() != n.Min.BitLen() || n.Max.Less(n.Min)) {
		return wrongAction("nat range %s-%s", n.Min, n.Max)
	}
	if n.Min.IsValid() {
		present |= natV4Min
		args = append(args, n.Min.AsSlice()...)
	}
	if n.Max.IsValid() && n.Max != n.Min {
		present |= natV4Max
		args = append(args, n.Max.AsSlice()...)
	}
	if n.Min.Is6() {
		present <<= 2 // From the v4 to the v6 bits.
	}
	if n.PortMin != 0 {
		present |= natPortMin
		args = binary.BigEndian.AppendUint16(args, n.PortMin)
	}
	if n.PortMax > n.PortMin && n.PortMin != 0 {
		present |= natPortMax
		args = binary.BigEndian.AppendUint16(args, n.PortMax)
	}
	length := 16 + len(args)
	b := append(nicira(nxNAT, (length+7)/8*8), 0, 0)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, present)
	return Action{wire: string(pad8(append(b, args...), length))}
}

// ctText writes the ct action, or "" when something in it is not understood.
func ctText(body string) string {
	if len(body) < 14 {
		return ""
	}
	flags, zoneField, zone, table, alg := number(body[:2]), number(body[2:6]), number(body[6:8]), body[8], number(body[12:14])
	if zoneField != 0 || alg != 0 || flags&^(ctCommit|ctForce) != 0 {
		return ""
	}
	var items, exec []string
	if flags&ctCommit != 0 {
		items = append(items, "commit")
	}
	if flags&ctForce != 0 {
		items = append(items, "force")
	}
	if table != tableNone {
		items = append(items, "table="+strconv.Itoa(int(table)))
	}
	if zone != 0 {
		items = append(items, "zone="+strconv.FormatUint(zone, 10))
	}
	inner, ok := splitActions(body[14:])
	if !ok {
		return ""
	}
	for _, a := range inner {
		if text := a.String(); strings.HasPrefix(text, "nat") {
			items = append(items, text)
		} else {
			exec = append(exec, text)
		}
	}
	if exec != nil {
		items = append(items, "exec("+strings.Join(exec, ",")+")")
	}
	if items == nil {
		return "ct"
	}
	return "ct(" + strings.Join(items, ",") + ")"
}

// natText writes the nat action, or "" when something in it is not understood.
func natText(body string) string {
	if len(body) < 6 {
		return ""
	}
	flags, present, args := number(body[2:4]), number(body[4:6]), body[6:]
	if flags&^(natSource|natDestination|natPersistent|natHash|natRandom) != 0 || present&^0x3f != 0 {
		return ""
	}
	take := func(bit uint64, size int) string {
		if present&bit == 0 || len(args) < size {
			return ""
		}
		s := args[:size]
		args = args[size:]
		return s
	}
	var text strings.Builder
	writeRange := func(open, low, high string, format func(string) string) {
		if low != "" {
			text.WriteString(open + format(low))
		}
		if high != "" {
			text.WriteString("-" + format(high))
		}
	}
	four := func(s string) string { return addressText(s, "") }
	writeRange("", take(natV4Min, 4), take(natV4Max, 4), four)
	low6, high6 := take(natV6Min, 16), take(natV6Max, 16)
	six := four
	if present&natPortMin != 0 {
		six = func(s string) string { return "[" + addressText(s, "") + "]" }
	}
	writeRange("", low6, high6, six)
	writeRange(":", take(natPortMin, 2), take(natPortMax, 2), func(s string) string { return strconv.FormatUint(number(s), 10) })
	return natFrame(flags, text.String())
}

// natFrame puts the translation's kind and options around its range.
func natFrame(flags uint64, translation string) string {
	kind := ""
	switch {
	case flags&natSource != 0:
		kind = "src"
	case flags&natDestination != 0:
		kind = "dst"
	default:
		return "nat"
	}
	if translation != "" {
		kind += "=" + translation
	}
	for _, option := range []struct {
		bit  uint64
		name string
	}{{natPersistent, "persistent"}, {natHash, "hash"}, {natRandom, "random"}} {
		if flags&option.bit != 0 {
			kind += "," + option.name
		}
	}
	return "nat(" + kind + ")"
}
