package lab

import (
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"
)

// wantRestartsSurvived kills and ends the switch's processes while packets flow.
func (c *cluster) wantRestartsSurvived(t *testing.T) {
	for _, target := range []string{"red/near", "red/far"} {
		c.start(inPod(target), "reply", port)
	}
	before := c.ofports("node1")
	for _, end := range [][2]string{{"ovs-vswitchd", "KILL"}, {"ovs-vswitchd", "TERM"}, {"ovsdb-server", "KILL"}, {"ovsdb-server", "TERM"}} {
		process, signal := end[0], end[1]
		load := c.start(inPod("red/client"), "flow", c.podIP("red/far")+":"+port, pace())
		c.run("lab", "kill", "--name", c.name, "node1", process, "--signal", signal)
		c.run("lab", "start", "--name", c.name, "node1", process)
		c.eventually(t, "pods talk after a restart of "+process, func() bool {
			results := c.check(inPod("red/client"), "icmp "+c.podIP("red/near")+" 56", "icmp "+c.podIP("red/far")+" 56")
			return results[0].OK && results[1].OK
		})
		// A second more, so that the stream can repeat what was lost in the gap.
		time.Sleep(time.Second)
		seen := readTraffic(t, load)
		t.Logf("figure: %s ended by %s and started: no packet for %d ms, %d of %d datagrams lost, %d of %d new connections refused", process, signal,
			seen.LongestGapMicros/1000, seen.UDPSent-seen.UDPReturned, seen.UDPSent, seen.Refused, seen.Refused+seen.Connected)
		if seen.StreamError != "" || seen.StreamReturned != seen.StreamSent {
			t.Errorf("%s ended by %s: the TCP connection did not survive: %+v", process, signal, seen)
		}
		if after := c.ofports("node1"); !maps.Equal(before, after) {
			t.Errorf("%s ended by %s: OpenFlow ports were %v and are %v", process, signal, before, after)
		}
	}
	c.wantFlowsFromScratch(t, "node1")
}

// wantCacheAlone takes the agent away, and then restarts ovs-vswitchd, which knows no
// flow. What is under way must go on all the time: first nobody is there who could
// hinder it, and then one who has been told to wait.
func (c *cluster) wantCacheAlone(t *testing.T) {
	if userspace() {
		t.Skip("only on the kernel's datapath: that in userspace ends with ovs-vswitchd")
	}
	targets := []string{"red/near", "red/far"}
	loads := map[string]*background{}
	for _, target := range targets {
		c.start(inPod(target), "reply", port)
		loads[target] = c.start(inPod("red/client"), "stream", c.podIP(target)+":"+port, pace())
	}
	goesOn := func(when string) {
		t.Helper()
		for _, target := range targets {
			before := c.heardBy(t, target)
			c.eventually(t, target+" hears the client "+when, func() bool { return c.heardBy(t, target) >= before+window/10 })
			t.Logf("%s hears the client %s", target, when)
		}
	}
	goesOn("at first")
	c.run("lab", "kill", "--name", c.name, "node1", "nodeagent", "--signal", "KILL")
	for _, signal := range []string{"KILL", "TERM"} {
		c.run("lab", "kill", "--name", c.name, "node1", "ovs-vswitchd", "--signal", signal)
		goesOn("without ovs-vswitchd, ended by " + signal)
		c.run("lab", "start", "--name", c.name, "node1", "ovs-vswitchd")
		goesOn("with an ovs-vswitchd that waits, started after " + signal)
	}
	c.run("lab", "start", "--name", c.name, "node1", "nodeagent")
	goesOn("with everything back")
	for target, load := range loads {
		seen := readTraffic(t, load)
		if seen.StreamError != "" || seen.StreamReturned != seen.StreamSent {
			t.Errorf("the TCP connection to %s did not survive: %+v", target, seen)
		}
	}
	c.wantFlowsFromScratch(t, "node1")
}

// heardBy is how many packets a pod has received.
func (c *cluster) heardBy(t *testing.T, pod string) int {
	t.Helper()
	for line := range strings.Lines(c.exec(inPod(pod), "cat", "/proc/net/dev")) {
		// INTERFACE: BYTES PACKETS …, first of what came (proc_net(5)).
		if numbers, found := strings.CutPrefix(strings.TrimSpace(line), "eth0:"); found {
			n, err := strconv.Atoi(strings.Fields(numbers)[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s has no eth0", pod)
	return 0
}

// ofports answers the OpenFlow port of each pod of a node.
func (c *cluster) ofports(node string) map[string]uint32 {
	ports := map[string]uint32{}
	for _, p := range c.portsOf(node) {
		ports[p.namespace+"/"+p.name] = p.ofport
	}
	return ports
}
