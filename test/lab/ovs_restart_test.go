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
	for _, process := range []string{"ovs-vswitchd", "ovsdb-server"} {
		load := c.start(inPod("red/client"), "flow", c.podIP("red/far")+":"+port, "1ms")
		c.run("lab", "kill", "--name", c.name, "node1", process, "--signal", "KILL")
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
		t.Logf("%s killed and started: no packet for %d ms; %+v", process, seen.LongestGapMicros/1000, seen)
		if seen.StreamError != "" || seen.StreamReturned != seen.StreamSent {
			t.Errorf("%s: the TCP connection did not survive: %+v", process, seen)
		}
	}
	if after := c.ofports("node1"); !maps.Equal(before, after) {
		t.Errorf("OpenFlow ports were %v and are %v", before, after)
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
