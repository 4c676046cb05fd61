package egressmark

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMarksAreTheAncestors(t *testing.T) {
	late := func(bit uint8) Reserved { return Reserved{Masquerade: bit, Drop: true} }
	cases := []struct {
		vnid     uint32
		reserved Reserved
		want     uint32
	}{
		{0, late(0), 0xff000000},
		{1, late(0), 0x01000000},
		{0x2b, late(0), 0x0100002a},
		{0x8000, late(0), 0x10000000},
		{0x8001, late(0), 0x11000000},
		{0xffffff, late(0), 0x11ff7ffe},
		{0xffffff, late(14), 0x11ff3fff},
		{0x82f8b2, Reserved{}, 0x82f8b2}, // a node of 3.11
		{0x2b, Reserved{}, 0x0100002a},
	}
	for _, c := range cases {
		got, err := Of(c.vnid, 0, c.reserved)
		if err != nil || got != c.want {
			t.Errorf("VNID %#x with %+v: %#08x, %v, want %#08x", c.vnid, c.reserved, got, err, c.want)
		}
	}
}

// TestTheObservedMarkIsMade looks for the mark in what was observed on a node.
func TestTheObservedMarkIsMade(t *testing.T) {
	mark, err := Of(8583346, 0, Reserved{})
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"iptables.yaml": fmt.Sprintf("--mark %#x -j SNAT", mark),
		"traces.yaml":   fmt.Sprintf("set_field:%#x->pkt_mark", mark),
	} {
		text, err := os.ReadFile("../../test/observed/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("%s does not have %q", file, want)
		}
	}
	if got := MAC(mark).String(); got != "0a:59:00:82:f8:b2" {
		t.Errorf("MAC is %s", got)
	}
}

func TestNoTwoPairsHaveOneMarkNorAReservedBit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		reserved := Reserved{Masquerade: uint8(rapid.IntRange(0, 15).Draw(t, "bit")), Drop: rapid.Bool().Draw(t, "drop")} //nolint:gosec // small
		// VNIDs of few bits meet the corners more often.
		vnid := rapid.OneOf(rapid.Uint32Range(0, MaxVNID), rapid.SampledFrom([]uint32{
			0, 1, 1 << 14, 1 << 15, 1<<15 | 1, 1 << 17, 1<<17 | 1, 3 << 17, 1<<15 | 1<<17, MaxVNID, MaxVNID &^ (1 << 15), MaxVNID &^ 1,
		}))
		slot := rapid.Uint32Range(0, MaxSlot)
		v1, s1, v2, s2 := vnid.Draw(t, "v1"), slot.Draw(t, "s1"), vnid.Draw(t, "v2"), slot.Draw(t, "s2")
		a, errA := Of(v1, s1, reserved)
		b, errB := Of(v2, s2, reserved)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if a == b && (v1 != v2 || s1 != s2) {
			t.Fatalf("VNID %#x slot %d and VNID %#x slot %d both have %#08x", v1, s1, v2, s2, a)
		}
		if a == 0 || a&(1<<reserved.Masquerade) != 0 || reserved.Drop && a&dropBit != 0 {
			t.Fatalf("VNID %#x slot %d has %#08x with %+v", v1, s1, a, reserved)
		}
	})
}

func TestWhatHasNoMarkIsRefused(t *testing.T) {
	for _, c := range []struct {
		vnid, slot uint32
		reserved   Reserved
	}{{1 << 24, 0, Reserved{}}, {1, 63, Reserved{}}, {1, 0, Reserved{Masquerade: 32}}, {1, 1, Reserved{Masquerade: 16}}} {
		if mark, err := Of(c.vnid, c.slot, c.reserved); err == nil {
			t.Errorf("%+v has %#08x", c, mark)
		}
	}
}
