package egresshost_test

import (
	"testing"
)

// TestANodeThatIsClosedHoldsNothingUntilItMay closes the guard before all else, and stays
// closed whatever egress is heard to have said before.
func TestANodeThatIsClosedHoldsNothingUntilItMay(t *testing.T) {
	n := &node{compared: true}
	h := n.host()
	h.Want(hosting(5, "192.0.2.100 42 0"))
	pass(t, h, false)
	n.took()
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, n, "close [192.0.2.100]")
	pass(t, h, false)
	expect(t, n, "lead []", "release [192.0.2.100]", "rules []", "forget")
	if n.failed == nil {
		t.Error("nobody is told that it is not in force")
	}
	h.Want(hosting(6, "192.0.2.100 42 0", "192.0.2.101 43 0"))
	pass(t, h, false)
	expect(t, n, "rules []", "confirm 6")
	h.Open(7) // and what is known is older
	pass(t, h, false)
	expect(t, n, "rules []")
	h.Want(hosting(7, "192.0.2.101 43 0"))
	pass(t, h, false)
	expect(t, n, "rules [192.0.2.101]", "hold [192.0.2.101]", "open [192.0.2.101]", "lead [192.0.2.101]", "confirm 7")
}

// TestAClosedGuardIsOpenedByNoPassThatHasBegun closes while a pass is about to open.
func TestAClosedGuardIsOpenedByNoPassThatHasBegun(t *testing.T) {
	n := &node{compared: true}
	h := n.host()
	h.Want(hosting(5, "192.0.2.100 42 0"))
	n.during = func(call string) {
		if call == "hold" {
			if err := h.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	pass(t, h, false)
	n.during = nil
	if len(n.open) > 0 {
		t.Errorf("open are %v", n.open)
	}
	pass(t, h, false)
	if len(n.open)+len(n.addresses)+len(n.led) > 0 {
		t.Errorf("open are %v, held %v, led %v", n.open, n.addresses, n.led)
	}
}

// TestAnAgentThatStartsKeepsWhatIsOpenAndTakesNothingUntilItMay is about a node that may have
// been replaced while no agent ran.
func TestAnAgentThatStartsKeepsWhatIsOpenAndTakesNothingUntilItMay(t *testing.T) {
	n := &node{compared: true}
	before := n.host()
	before.Want(hosting(5, "192.0.2.100 42 0"))
	pass(t, before, false)
	n.took()
	h := n.host()
	h.Distrust()
	h.Want(hosting(6, "192.0.2.100 42 0", "192.0.2.101 43 0"))
	pass(t, h, false)
	expect(t, n, "rules [192.0.2.100]", "confirm 6")
	h.Open(6)
	pass(t, h, false)
	expect(t, n, "rules [192.0.2.100 192.0.2.101]", "hold [192.0.2.100 192.0.2.101]", "open [192.0.2.100 192.0.2.101]", "lead [192.0.2.100 192.0.2.101]")
}
