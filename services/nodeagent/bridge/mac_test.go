package bridge

import (
	"strings"
	"testing"
	"time"
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

// TestMACThatPodsKnowStays makes tun0 as OpenShift SDN does, which asks for no MAC, and
// then as everybody else, who has no reason to keep one.
func TestMACThatPodsKnowStays(t *testing.T) {
	n := newNode(t)
	if mac, kept, since, err := n.GatewayMAC(t.Context(), gatewayMAC()); err != nil || kept || !since.IsZero() || mac.String() != gatewayMAC().String() {
		t.Fatalf("without tun0: %s, kept %t since %s, %v", mac, kept, since, err)
	}
	n.sw.Vsctl(t, "add-br", "br0", "--", "set", "Bridge", "br0", "fail_mode=secure", "protocols=OpenFlow13", "datapath_type=netdev",
		"--", "add-port", "br0", "tun0", "--", "set", "Interface", "tun0", "type=internal", "ofport_request=2", "mtu_request=1450")
	had := strings.Trim(strings.TrimSpace(n.sw.Vsctl(t, "get", "Interface", "tun0", "mac_in_use")), `"`)
	spec := vxlanSpec()
	for _, when := range []string{"before", "after"} { // the bridge is ours
		mac, kept, since, err := n.GatewayMAC(t.Context(), gatewayMAC())
		if err != nil || !kept || mac.String() != had || time.Since(since) > time.Hour {
			t.Fatalf("%s: %s, kept %t since %s, %v, want %s", when, mac, kept, since, err, had)
		}
		spec.GatewayMAC, spec.KeptMAC = mac, kept
		n.ensure(t, spec)
	}
	if again := n.ensure(t, spec); len(again) != 0 {
		t.Errorf("a second repair: %q", again)
	}
	if shown := n.ns.Run(t, "ip", "link", "show", "tun0"); !strings.Contains(shown, had) {
		t.Errorf("tun0 is\n%s\nwant %s", shown, had)
	}
	const then = "2026-01-02T03:04:05Z"
	n.sw.Vsctl(t, "set", "Interface", "tun0", `external_ids:taken-over="`+then+`"`)
	if again := n.ensure(t, spec); len(again) != 0 {
		t.Errorf("a repair of when it was: %q", again)
	}
	for _, noted := range []bool{true, false} {
		want := then
		if !noted {
			want = time.Time{}.Format(time.RFC3339)
			n.sw.Vsctl(t, "remove", "Interface", "tun0", "external_ids", "taken-over")
		}
		if _, kept, since, err := n.GatewayMAC(t.Context(), gatewayMAC()); err != nil || !kept || since.Format(time.RFC3339) != want {
			t.Errorf("noted is %t: kept %t since %s, %v", noted, kept, since, err)
		}
	}
}
