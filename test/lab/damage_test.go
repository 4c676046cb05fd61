package lab

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestWhatSomebodyBreaksByHandIsRepaired(t *testing.T) {
	c := up(t, oneTenantOnTwoNodes)
	c.start(inPod("red/far"), "serve", port, "far")
	c.start(onOutside("outside"), "serve", port, "outside")
	// What is wrong with a pod's connections: to a pod of another node, and to the
	// outside, which must see the node.
	wrong := func() (problems []string) {
		for _, r := range c.check(inPod("red/client"), "tcp "+c.podIP("red/far")+":"+port+" 1000", "tcp "+c.outsideIP("outside")+":"+port+" 1000") {
			if !r.OK {
				problems = append(problems, r.Check+": "+r.Error)
			} else if r.Server == "outside" && r.Source != c.nodeIP("node1") {
				problems = append(problems, r.Check+": seen as "+r.Source)
			}
		}
		return problems
	}
	if problems := wrong(); problems != nil {
		t.Fatal(problems)
	}
	if out := c.ctl("audit", "node1"); !strings.Contains(out, "nothing differed") {
		t.Fatalf("an audit of an untouched node: %s", out)
	}
	for _, damage := range []struct {
		what, command string
		breaks        bool // packets
	}{
		{"all flows", "ovs-ofctl -O OpenFlow13 del-flows br0", true},
		{"a foreign flow", "ovs-ofctl -O OpenFlow13 add-flow br0 table=80,priority=500,actions=drop", false},
		{"another action", "ovs-ofctl -O OpenFlow13 mod-flows br0 table=90,ip,actions=drop", true},
		{"the masquerade rules", "iptables -t nat -F OPENSHIFT-MASQUERADE", true},
		{"the jump to them", "iptables -t nat -D POSTROUTING -m comment --comment 'rules for masquerading OpenShift traffic' -j OPENSHIFT-MASQUERADE", true},
		{"tun0's address", "ip address flush dev tun0", true},
		{"tun0's route", "ip route del 10.128.0.0/14 dev tun0", true},
		{"tun0's state", "ip link set tun0 down", true},
		{"the fail mode", "ovs-vsctl del-fail-mode br0", false},
		{"the tunnel's options", "ovs-vsctl set Interface vxlan0 options:remote_ip=192.0.2.1", true},
	} {
		t.Run(damage.what, func(t *testing.T) {
			before := c.repairs("node1")
			c.exec(onNode("node1"), "sh", "-c", damage.command)
			if damage.breaks && wrong() == nil {
				t.Errorf("%s broke nothing, so its repair proves nothing", damage.command)
			}
			// The agent's own audit, every three minutes, may have come first.
			if out := c.ctl("audit", "node1"); strings.Contains(out, "nothing differed") && c.repairs("node1") == before {
				t.Errorf("%s was not noticed: %s", damage.command, out)
			}
			if problems := wrong(); problems != nil {
				t.Errorf("after the repair: %v", problems)
			}
			if out := c.ctl("audit", "node1"); !strings.Contains(out, "nothing differed") {
				t.Errorf("a second audit still found: %s", out)
			}
		})
	}
	c.wantFlowsFromScratch(t, "node1")
}

// repairs answers how many differences a node's agent has found and repaired, as
// text: they are only compared.
func (c *cluster) repairs(node string) string {
	c.t.Helper()
	var list struct {
		Items []struct{ Node, Repairs string }
	}
	if err := json.Unmarshal([]byte(c.ctl("get", "nodes", "-o", "json")), &list); err != nil {
		c.t.Fatal(err)
	}
	for _, n := range list.Items {
		if n.Node == node {
			return n.Repairs
		}
	}
	c.t.Fatalf("no node %s", node)
	return ""
}
