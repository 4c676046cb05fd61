package lab

import (
	"encoding/json"
	"maps"
	"testing"
	"time"
)

func TestConnectionsAndPortNumbersSurviveARestartOfTheSwitch(t *testing.T) {
	c := up(t, oneTenantOnTwoNodes)
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
		var seen traffic
		if err := json.Unmarshal(load.end(t), &seen); err != nil {
			t.Fatal(err)
		}
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

// ofports answers the OpenFlow port of each pod of a node.
func (c *cluster) ofports(node string) map[string]uint32 {
	ports := map[string]uint32{}
	for _, p := range c.portsOf(node) {
		ports[p.namespace+"/"+p.name] = p.ofport
	}
	return ports
}
