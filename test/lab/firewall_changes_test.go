package lab

import (
	"cmp"
	"os"
	"testing"
)

// wantFirewallsWhileVNIDsChange renumbers blue, up to VNID 0, while a pod of it asks for what
// its firewall denies. Not one packet may come out, and each VNID is judged like any other.
func (c *cluster) wantFirewallsWhileVNIDsChange(t *testing.T, want map[way]bool) {
	const denied = "7100"
	end := c.witness()
	asking := c.start(inPod("blue/a"), "series", "udp", outsideIP+":"+denied, cmp.Or(os.Getenv("DAMASK_PACE"), "5ms"))
	c.ctl("pod-network", "isolate-projects", "blue")
	c.ctl("pod-network", "make-projects-global", "blue")
	if vnid := c.vnids()["blue"]; vnid != 0 {
		t.Fatalf("blue has VNID %d", vnid)
	}
	c.wantWays(t, want)
	c.ctl("pod-network", "join-projects", "--to", "red", "blue")
	if list := readSeries(t, asking); len(list) < 100 {
		t.Errorf("blue/a asked %d times only", len(list))
	}
	seen := end(t)
	if len(seen.sources("tcp "+port)) == 0 {
		t.Errorf("the witness did not even see what passes: %v", seen.Arrived)
	}
	if came := seen.Arrived["udp "+denied]; came != nil {
		t.Errorf("what is denied came out while VNIDs changed: %+v", came)
	}
}

// wantTheOtherEndpoint asks a service with two endpoints outside. A firewall that denies one
// leaves the other alone, and those of whom it is not. What the service leads to the one that is
// denied ends there; TCP may have more luck when it repeats itself.
func (c *cluster) wantTheOtherEndpoint(t *testing.T) {
	const service = "172.30.0.79:80"
	got := c.load(t, inPod("red/a"), "tcp", service, enough)
	if by := got.by(); by["outside"] == 0 || len(by) != 1 {
		t.Errorf("red/a may be led to one endpoint, and got %v, errors %v", got.Answers, got.Errors)
	}
	got = c.load(t, inPod("free/a"), "tcp", service, enough)
	if by := got.by(); by["outside"] == 0 || by["other"] == 0 || len(got.Errors) > 0 {
		t.Errorf("free/a may be led to both endpoints, and got %v, errors %v", got.Answers, got.Errors)
	}
}

// wantChangesWithoutAgent changes red's firewall and deletes blue's while the agent of
// their node is away.
func (c *cluster) wantChangesWithoutAgent(t *testing.T) {
	c.run("lab", "kill", "--name", c.name, "node1", "nodeagent", "--signal", "KILL")
	c.firewall(t, "- {namespace: red, egress: [{type: Allow, to: {cidrSelector: 192.168.108.2/32}}, {type: Allow, to: {cidrSelector: "+c.nodeIP("node2")+"/32}}, {type: Deny, to: {cidrSelector: 0.0.0.0/0}}]}\n", "--wait=false")
	c.ctl("egressfirewall", "delete", "blue/default", "--wait=false")
	// Until then what was in force is.
	c.wantWays(t, map[way]bool{{"red/a", tcp1}: true, {"red/a", tcp2}: false, {"blue/a", tcp1}: false})
	c.run("lab", "start", "--name", c.name, "node1", "nodeagent")
	c.eventually(t, "the node has what was changed", func() bool {
		return c.check(inPod("red/a"), tcp2)[0].OK && c.check(inPod("blue/a"), tcp1)[0].OK
	})
	c.wantWays(t, map[way]bool{
		{"red/a", tcp1}: false, {"red/a", tcp2}: true, {"red/a", udp2}: true, {"red/a", icmp1}: false, {"red/a", extService}: true, {"red/a", apiService}: true,
		{"red/b", tcp1}: false, {"red/b", tcp2}: true,
		{"blue/a", tcp1}: true, {"blue/a", udp1}: true, {"blue/a", icmp1}: true, {"blue/a", tcp2}: true,
	})
}
