package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/damask-sdn/damask/test/ancestor"
)

// halfWithPolicies is a cluster whose first node is OpenShift SDN's still. Red lets in
// its own pods alone, and blue's pods send to one another alone.
const halfWithPolicies = `
mode: networkpolicy
clusterNetworks: [{cidr: 10.128.0.0/14, hostSubnetLength: 9}]
serviceNetwork: 172.30.0.0/16
nodes: [{name: node1, subnet: 10.130.0.0/23, withoutAgent: true}, {name: node2}]
namespaces:
- {name: red, vnid: 1001}
- {name: blue, vnid: 8583346}
pods:
- {namespace: red, name: c, node: node2}
- {namespace: blue, name: c, node: node2}
- {namespace: default, name: c, node: node2}
networkPolicies:
- {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: red, name: in}, spec: {podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}}
- {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: blue, name: out}, spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}}
`

// policed are the pods of the node with policies. They get their addresses in this order.
var policed = []tenant{{"red/a", "red", "node1"}, {"red/b", "red", "node1"}, {"blue/a", "blue", "node1"}, {"default/a", "default", "node1"}}

// TestPoliciesOfTheAncestorHoldWhileANodeIsTakenOver has traffic that policies allow, in both
// roles: of pods that nobody else may ask, and that get answers; and of pods that may
// send to nobody else, and answer. It must not lose a packet, whoever of a connection speaks
// first after the change. Beside it others ask what policies forbid, all the time.
func TestPoliciesOfTheAncestorHoldWhileANodeIsTakenOver(t *testing.T) {
	c := up(t, halfWithPolicies)
	const red, blue = 1001, 8583346
	f := former{ancestor.NetworkPolicy, map[string]int{"red": red, "blue": blue, "default": 0}, policed, nil}
	f.more = func(config *ancestor.Config) {
		blueA := netip.MustParseAddr("10.130.0.4")
		config.Isolated = []ancestor.Isolated{
			{VNID: red, Peers: []string{fmt.Sprintf("ip,reg0=%d", red)}},
			{Egress: true, VNID: blue, Peers: []string{"ip,nw_dst=" + blueA.String(), "ip,nw_dst=" + c.podIP("blue/c")}},
		}
	}
	agent := c.becomeAncestor("node1", f)
	for _, at := range []place{inPod("red/b"), inPod("red/c"), inPod("blue/a"), inPod("default/a"), inPod("default/c"), onOutside("outside")} {
		c.start(at, "reply", replies)
	}
	for _, p := range slices.Concat(policed, []tenant{{"red/c", "red", "node2"}, {"blue/c", "blue", "node2"}, {"default/c", "default", "node2"}}) {
		c.start(inPod(p.pod), "serve", port, p.pod)
	}
	at := func(pod string) string { return c.podIP(pod) + ":" + replies }
	ways := []trip{
		{inPod("red/a"), at("red/b")}, {inPod("red/c"), at("red/b")}, // what policies allow
		{inPod("red/b"), at("default/c")}, {inPod("red/a"), at("default/a")}, // whose answers nobody else could send
		{inPod("default/c"), at("blue/a")}, {inPod("red/b"), at("blue/a")}, // to pods that could ask nobody
	}
	if !userspace() { // where OpenShift SDN's flows know answers from outside
		ways = append(ways, trip{inPod("red/b"), c.outsideIP("outside") + ":" + replies})
	}
	forbidden := map[string][]string{
		"default/a": {"red/b", "red/c"}, "default/c": {"red/a"}, "blue/c": {"red/b"}, "blue/a": {"red/a", "default/a", "default/c"},
	}
	t.Run("before", func(t *testing.T) { c.in(t).wantForbidden(t, forbidden) })
	for _, w := range ways {
		c.eventually(t, w.String()+" is heard of", func() bool {
			seen, err := c.tryCheck(w.from, "icmp "+netip.MustParseAddrPort(w.to).Addr().String()+" 56")
			return err == nil && seen[0].OK
		})
	}
	var asking []*background
	for from, all := range forbidden {
		for _, to := range all {
			for _, protocol := range []string{"tcp", "udp"} {
				asking = append(asking, c.start(inPod(from), "load", protocol, c.podIP(to)+":"+port, "rate", "1"))
			}
		}
	}
	c.takeOver(t, "node1", agent, ways)
	for _, b := range asking {
		if seen := readShares(t, b.end(t)); len(seen.Answers) != 0 || len(seen.Errors) == 0 {
			t.Errorf("what policies forbid was answered while the node was taken over: %+v", seen)
		}
	}
	t.Run("after", func(t *testing.T) {
		c.in(t).wantForbidden(t, forbidden)
		// Before, node2 knew of no pod red/a: its agent tells of pods.
		wantAll(t, inPod("red/a"), c.check(inPod("red/a"), "tcp "+c.podIP("red/c")+":"+port+" 10", "udp "+c.podIP("red/c")+":"+port+" 10"))
	})
	c.wantNothingOfTheAncestor(t, "node1", policed)
	before := c.flowLines("node1")
	c.run("lab", "kill", "--name", c.name, "node1", "nodeagent", "--signal", "KILL")
	c.run("lab", "start", "--name", c.name, "node1", "nodeagent")
	if after := c.flowLines("node1"); !slices.Equal(before, after) {
		t.Errorf("a restart changed flows from\n%v\nto\n%v", before, after)
	}
}

// wantForbidden asks what policies forbid, and its contrary, by which it is known that
// somebody would answer.
func (c *cluster) wantForbidden(t *testing.T, forbidden map[string][]string) {
	t.Helper()
	for from, all := range forbidden {
		var lines []string
		for _, to := range all {
			lines = append(lines, "tcp "+c.podIP(to)+":"+port+" 10", "udp "+c.podIP(to)+":"+port+" 10")
		}
		for _, r := range c.check(inPod(from), lines...) {
			if r.OK {
				t.Errorf("%s: %s: was answered by %s", from, r.Check, r.Server)
			}
		}
	}
	wantAll(t, inPod("red/a"), c.check(inPod("red/a"), "tcp "+c.podIP("red/b")+":"+port+" 10", "udp "+c.podIP("default/a")+":"+port+" 10"))
}
