package link

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestQuarantineOfOneDeviceDoesNotDisturbOthers(t *testing.T) {
	n := newNode(t, true)
	for _, device := range []string{"a", "b", "c"} {
		n.ns.Run(t, "ip", "tuntap", "add", device, "mode", "tap")
		if err := n.Quarantine(device); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Release("b"); err != nil {
		t.Error(err)
	}
	if err := n.Release("b"); err != nil {
		t.Errorf("second Release: %v", err)
	}
	ruleset := n.ns.Printed(t, "a", "b", "c")
	for _, device := range []string{"a", "c"} {
		want := fmt.Sprintf(`type filter hook ingress device "%s" priority filter; policy drop;`, device)
		if !strings.Contains(ruleset, want) {
			t.Errorf("no %q in\n%s", want, ruleset)
		}
	}
	if strings.Contains(ruleset, "chain b") {
		t.Errorf("b is left in\n%s", ruleset)
	}
	n.ns.Run(t, "ip", "link", "del", "dev", "c")
	got, err := n.EnsureQuarantine(t.Context(), []string{"a", "b", "gone"})
	if err != nil || !slices.Contains(got, "b: is not in quarantine") {
		t.Errorf("EnsureQuarantine: %q, %v", got, err)
	}
	if in, err := n.Quarantined(); err != nil || !slices.Equal(in, []string{"a", "b"}) {
		t.Errorf("quarantine: %q, %v", in, err)
	}
	if got, err := n.EnsureQuarantine(t.Context(), []string{"a", "b"}); err != nil || len(got) != 0 {
		t.Errorf("second EnsureQuarantine: %q, %v", got, err)
	}
}

func TestQuarantineHoldsForADeviceMadeAnew(t *testing.T) {
	n := newNode(t, true)
	for range 2 {
		n.ns.Run(t, "ip", "tuntap", "add", "a", "mode", "tap")
		if err := n.Quarantine("a"); err != nil {
			t.Fatal(err)
		}
		if got := n.ns.Run(t, "nft", "list", "ruleset"); strings.Count(got, `device "a"`) != 1 {
			t.Errorf("ruleset:\n%s", got)
		}
		n.ns.Run(t, "ip", "link", "del", "dev", "a")
	}
}

func TestReleaseOfNothingLeavesTheConnectionUsable(t *testing.T) {
	n := newNode(t, true)
	n.ns.Run(t, "ip", "tuntap", "add", "a", "mode", "tap")
	for range 50 {
		for _, device := range []string{"nobody", "a", "a"} {
			if err := n.Release(device); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.Quarantine("a"); err != nil {
			t.Fatal(err)
		}
		if in, err := n.Quarantined(); err != nil || !slices.Equal(in, []string{"a"}) {
			t.Fatalf("quarantine: %q, %v", in, err)
		}
	}
}
