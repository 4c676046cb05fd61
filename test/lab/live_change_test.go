package lab

import (
	"testing"
)

func TestConnectionsThatStayAllowedStayOpenWhileTenantsChange(t *testing.T) {
	c := up(t, twoTenants)
	var flows []*background
	pairs := [][2]string{{"red/a", "red/b"}, {"red/a", "red/c"}, {"blue/a", "default/b"}}
	for _, pair := range pairs {
		c.start(inPod(pair[1]), "reply", port)
		flows = append(flows, c.start(inPod(pair[0]), "flow", c.podIP(pair[1])+":"+port, pace()))
	}
	for _, change := range [][]string{
		{"pod-network", "join-projects", "--to", "red", "blue"},
		{"pod-network", "isolate-projects", "blue"},
		{"pod-network", "make-projects-global", "red"},
		{"pod-network", "isolate-projects", "red"},
		{"mode", "set", "subnet"},
		{"mode", "set", "multitenant"},
		{"create", "netnamespace", "green"},
		{"pod-network", "join-projects", "--to", "green", "red", "blue"},
	} {
		c.ctl(change...)
	}
	for i, f := range flows {
		seen := readTraffic(t, f)
		// Nodes change within milliseconds of one another, and a packet that is
		// under way then may meet the old VNID on one and the new one on the
		// other: TCP repeats it, UDP does not.
		t.Logf("%s to %s: %d of %d datagrams lost; %+v", pairs[i][0], pairs[i][1], seen.UDPSent-seen.UDPReturned, seen.UDPSent, seen)
		if seen.StreamError != "" || seen.StreamReturned != seen.StreamSent || seen.StreamSent == 0 {
			t.Errorf("%s to %s: the connection did not stay open: %+v", pairs[i][0], pairs[i][1], seen)
		}
		if seen.Refused != 0 {
			t.Errorf("%s to %s: %d new connections were refused (%s)", pairs[i][0], pairs[i][1], seen.Refused, seen.LastError)
		}
	}
}
