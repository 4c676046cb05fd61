package bridge

import (
	"strings"
	"testing"
)

// TestMACThatSomebodyGaveTun0DoesNotStay holds OVS to what the column asks of it.
func TestMACThatSomebodyGaveTun0DoesNotStay(t *testing.T) {
	n := newNode(t)
	n.ensure(t, vxlanSpec())
	n.ns.Run(t, "ip", "link", "set", "tun0", "address", "0a:58:00:00:00:07")
	// OVS does not tell when it has looked at a device, so this asks again and again.
	for ctx := within(t); !strings.Contains(n.ns.Run(t, "ip", "link", "show", "tun0"), gatewayMAC().String()); {
		if ctx.Err() != nil {
			t.Fatal("tun0 still has the other MAC")
		}
	}
	n.ensure(t, vxlanSpec())
	if again := n.ensure(t, vxlanSpec()); len(again) != 0 {
		t.Errorf("a second repair: %q", again)
	}
}
