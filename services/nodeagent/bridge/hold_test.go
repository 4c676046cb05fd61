package bridge

import "testing"

func TestASwitchThatWaitsIsLetForward(t *testing.T) {
	n := newNode(t)
	n.ensure(t, vxlanSpec())
	if cleared, err := n.LetForward(within(t)); cleared || err != nil {
		t.Errorf("nothing to clear: %v, %v", cleared, err)
	}
	n.sw.Vsctl(t, "set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true", "other_config:mine=1")
	n.sw.KillVswitchd()
	n.sw.StartVswitchd(t)
	if cleared, err := n.LetForward(within(t)); !cleared || err != nil {
		t.Errorf("LetForward: %v, %v", cleared, err)
	}
	if got := n.get(t, "Open_vSwitch", ".", "other_config"); got != `{mine="1"}` {
		t.Errorf("other_config: %s", got)
	}
}

func TestTheNextStartIsHeldUnlessOthersWouldWaitToo(t *testing.T) {
	n := newNode(t)
	n.ensure(t, vxlanSpec())
	n.sw.Vsctl(t, "set", "Open_vSwitch", ".", "other_config:mine=1")
	for range 2 { // the second time nothing is left to do
		if held, err := n.HoldNextStart(within(t)); !held || err != nil {
			t.Fatalf("HoldNextStart: %v, %v", held, err)
		}
		if got := n.get(t, "Open_vSwitch", ".", "other_config"); got != `{flow-restore-wait="true", mine="1"}` {
			t.Errorf("other_config: %s", got)
		}
	}
	n.sw.KillVswitchd()
	n.sw.StartVswitchd(t)
	n.sw.Ofctl(t, "add-flow", "br0", "table=5,actions=drop") // a switch that waits takes flows
	if cleared, err := n.LetForward(within(t)); !cleared || err != nil {
		t.Errorf("LetForward: %v, %v", cleared, err)
	}
	if held, err := n.HoldNextStart(within(t)); !held || err != nil {
		t.Fatalf("HoldNextStart after a restart: %v, %v", held, err)
	}
	n.sw.Vsctl(t, "add-br", "others", "--", "set", "bridge", "others", "datapath_type=netdev")
	for range 2 {
		if held, err := n.HoldNextStart(within(t)); held || err != nil {
			t.Errorf("HoldNextStart beside another bridge: %v, %v", held, err)
		}
		if got := n.get(t, "Open_vSwitch", ".", "other_config"); got != `{mine="1"}` {
			t.Errorf("other_config: %s", got)
		}
	}
}
