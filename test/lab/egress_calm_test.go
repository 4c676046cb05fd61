package lab

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// egressOnThree is one namespace whose address node1 hosts; node2 and node3 stand by.
const egressOnThree = `
replicas: {nats: 3, egress: 2}
nodes: [{name: node1, egressIPs: [192.168.108.200]}, {name: node2, egressIPs: [192.168.108.200]}, {name: node3, egressIPs: [192.168.108.200]}]
namespaces: [{name: red, egressIPs: [192.168.108.200]}]
pods:
- {namespace: red, name: near, node: node1}
- {namespace: red, name: far, node: node3}
`

// TestWhatServesEgressIPsIsKilledAndNothingNoticesIt kills agents, replicas and the
// store one after the other, while pods of the hosting node and of another one talk to
// a host outside. Connections must go on and new ones be made, all from the egress IP.
// A loaded machine keeps nodes silent for so long that they count as dead: then the
// address moves, as it must, and only the sources of that try are judged.
func TestWhatServesEgressIPsIsKilledAndNothingNoticesIt(t *testing.T) {
	c := up(t, egressOnThree)
	c.start(onOutside(""), "reply", leavePort)
	for try := range 5 {
		c.wantLeaving(t, "red", "192.168.108.200")
		if c.killWhatServes(t) || t.Failed() {
			return
		}
		t.Logf("try %d: nodes were silent too long", try+1)
	}
	t.Fatal("this machine was never quiet enough to tell")
}

// killWhatServes is one try; it answers whether the machine was quiet, so that all was
// judged.
func (c *cluster) killWhatServes(t *testing.T) (quiet bool) {
	t.Helper()
	before, host := c.nodeFailures(), c.hostOf("192.168.108.200")
	end := c.witness()
	flows := map[string]*background{}
	for _, pod := range []string{"red/near", "red/far"} {
		flows[pod] = c.start(inPod(pod), "flow", outsideIP+":"+leavePort, "5ms")
	}
	for _, target := range [][]string{
		{"node1", "nodeagent"}, {"node3", "nodeagent"}, {host, "nodeagent"},
		{"egress", "egress-1"}, {"egress", "egress-2"}, {"egress"}, {"nats", "nats-1"}, {"nats"},
	} {
		c.run(append([]string{"lab", "kill", "--name", c.name}, target...)...)
		// The time without it is part of what is tested: longer than a node may be silent.
		time.Sleep(1500 * time.Millisecond)
		c.run(append([]string{"lab", "start", "--name", c.name}, target...)...)
	}
	quiet = c.nodeFailures() == before
	for pod, f := range flows {
		seen := readTraffic(t, f)
		t.Logf("%s: %+v", pod, seen)
		if !quiet {
			continue
		}
		if seen.StreamError != "" || seen.StreamReturned != seen.StreamSent || seen.Refused != 0 || seen.Connected < 100 {
			t.Errorf("%s: traffic suffered: %+v", pod, seen)
		}
	}
	seen := end(t)
	for _, kind := range []string{"tcp " + leavePort, "udp " + leavePort} {
		seen.wantOnly(t, kind, "192.168.108.200")
		if quiet && seen.moves(kind) != 0 {
			t.Errorf("%s: the address moved: %+v", kind, seen.Arrived[kind])
		}
	}
	if now := c.hostOf("192.168.108.200"); quiet && now != host {
		t.Errorf("%s hosted the address, and now %q", host, now)
	}
	return quiet
}

// nodeFailures answers how often each node was taken for dead.
func (c *cluster) nodeFailures() string {
	c.t.Helper()
	var all []string
	for line := range strings.Lines(c.ctl("get", "egressnodes")) {
		f := strings.Fields(line)
		all = append(all, f[0]+" "+f[3])
	}
	return strings.Join(all, ", ")
}

// TestAPodThatIsBornNeverLeavesAsItsNode adds pods that send from the first moment on:
// the first of their namespace on the node, and later ones, on the hosting node and on
// another, and while the agent has just been restarted.
func TestAPodThatIsBornNeverLeavesAsItsNode(t *testing.T) {
	const namespaces = 4
	text := "nodes: [{name: node1, egressCIDRs: [192.168.108.208/28]}, {name: node2, egressCIDRs: [192.168.108.208/28]}, {name: node3}]\nnamespaces:\n"
	var allowed []string
	for i := range namespaces {
		allowed = append(allowed, fmt.Sprintf("192.168.108.%d", 210+i))
		text += fmt.Sprintf("- {name: ns%d, egressIPs: [%s]}\n", i, allowed[i])
	}
	c := up(t, text)
	for i, ip := range allowed {
		c.wantLeaving(t, fmt.Sprintf("ns%d", i), ip)
	}
	end := c.witness()
	nodes := []string{"node1", "node3"}
	shouting := map[string]*background{}
	for _, n := range nodes {
		shouting[n] = c.start(onNode(n), "eager", "/run/netns", outsideIP+":"+leavePort)
	}
	for i := range namespaces {
		for _, n := range nodes {
			for k := range 2 {
				if i == namespaces-1 && k == 1 {
					c.run("lab", "kill", "--name", c.name, n, "nodeagent")
					c.run("lab", "start", "--name", c.name, n, "nodeagent")
				}
				c.run("lab", "pod", "add", "--name", c.name, fmt.Sprintf("ns%d/%s-%d", i, n, k), "--node", n)
			}
		}
	}
	for n, b := range shouting {
		if got := strings.TrimSpace(string(b.end(t))); got != fmt.Sprint(2*namespaces) {
			t.Errorf("%s: %s pods sent something, want %d", n, got, 2*namespaces)
		}
	}
	seen := end(t)
	seen.wantOnly(t, "udp "+leavePort, allowed...)
	for _, ip := range allowed {
		if seen.sources("udp " + leavePort)[ip] == 0 {
			t.Errorf("nothing came from %s", ip)
		}
	}
	t.Logf("packets by source: %v", seen.sources("udp "+leavePort))
}

// TestDrainingANodeMovesItsEgressIPs drains the hosting node under traffic, measures how
// long new connections do not get out, and says what became of those that were open.
func TestDrainingANodeMovesItsEgressIPs(t *testing.T) {
	c := up(t, egressOnThree)
	c.wantLeaving(t, "red", "192.168.108.200")
	c.start(onOutside(""), "serve", leavePort, "outside")
	c.start(onOutside(""), "reply", "7010")
	end := c.witness()
	pod := inPod("red/far")
	fresh, open := c.start(pod, "series", "tcp", outsideIP+":"+leavePort, "10ms"), c.start(pod, "stream", outsideIP+":7010", pace())
	var drained []string
	var begun []time.Time
	for range 2 {
		host := c.hostOf("192.168.108.200")
		begun = append(begun, time.Now())
		out := c.ctl("node", "drain-egress", host)
		if !strings.Contains(out, "192.168.108.200 is hosted by node ") || !strings.Contains(out, "node "+host+" is drained of egress IPs, and hosts []") {
			t.Errorf("drain-egress says:\n%s", out)
		}
		drained = append(drained, host)
	}
	for _, n := range drained {
		c.ctl("node", "restore-egress", n)
	}
	list := readSeries(t, fresh)
	outages := []time.Duration{longestSilence(list, begun[0], begun[1]), longestSilence(list, begun[1], time.Now())}
	var stream traffic
	if err := json.Unmarshal(open.end(t), &stream); err != nil {
		t.Fatal(err)
	}
	seen := end(t)
	for _, kind := range []string{"tcp " + leavePort, "tcp 7010"} {
		seen.wantOnly(t, kind, "192.168.108.200")
	}
	for _, moment := range seen.overlaps("192.168.108.200") {
		t.Error(moment)
	}
	if moves := seen.moves("tcp " + leavePort); moves != len(drained) {
		t.Errorf("%d nodes were drained, and the address was seen to move %d times", len(drained), moves)
	}
	t.Logf("drained %v: the longest pauses between two new connections were %s; of a connection that was open %d of %d records came back (%s)",
		drained, outages, stream.StreamReturned, stream.StreamSent, stream.StreamError)
	if most := max(outages[0], outages[1]); most > failoverGoal {
		t.Errorf("new connections did not get out for %s", most)
	}
}
