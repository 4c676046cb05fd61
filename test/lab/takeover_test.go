package lab

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/test/ancestor"
)

// halfTakenOver is a cluster whose first node is OpenShift SDN's still.
const halfTakenOver = `
mode: multitenant
clusterNetworks: [{cidr: 10.128.0.0/14, hostSubnetLength: 9}]
serviceNetwork: 172.30.0.0/16
nodes: [{name: node1, subnet: 10.130.0.0/23, withoutAgent: true}, {name: node2}, {name: node3}]
namespaces:
- {name: red, vnid: 1001}
- {name: blue, vnid: 8583346}
pods:
- {namespace: red, name: c, node: node2}
- {namespace: red, name: d, node: node3}
- {namespace: blue, name: b, node: node2}
- {namespace: blue, name: d, node: node3}
- {namespace: default, name: b, node: node2}
`

// inherited are the pods that OpenShift SDN's plugin attaches, and others what Damask does.
var (
	inherited = []tenant{{"red/a", "red", "node1"}, {"red/b", "red", "node1"}, {"blue/a", "blue", "node1"}, {"default/a", "default", "node1"}}
	others    = []tenant{{"red/c", "red", "node2"}, {"red/d", "red", "node3"}, {"blue/b", "blue", "node2"}, {"blue/d", "blue", "node3"}, {"default/b", "default", "node2"}}
)

// former is a node of OpenShift SDN's.
type former struct {
	mode  string
	vnids map[string]int // as Damask's nodes were told too
	pods  []tenant
	more  func(*ancestor.Config) // what else it knows; nil: nothing
}

// formerTenants is one that keeps tenants apart.
var formerTenants = former{ancestor.Multitenant, map[string]int{"red": 1001, "blue": 8583346, "default": 0}, inherited, nil}

// TestANodeOfTheAncestorIsTakenOverUnderTraffic has a node programmed flow by flow as
// OpenShift SDN does it beside two of Damask's: they exchange packets as tenants say, or all
// with all where there are none. Then Damask's agent starts there, waits for the other one
// to end, and takes the node with its pods, while packets flow.
func TestANodeOfTheAncestorIsTakenOverUnderTraffic(t *testing.T) {
	t.Run("multitenant", func(t *testing.T) { takeOverTenants(t, halfTakenOver, formerTenants) })
	t.Run("subnet", func(t *testing.T) {
		f := formerTenants
		f.mode, f.vnids = ancestor.Subnet, map[string]int{"red": 0, "blue": 0, "default": 0}
		takeOverTenants(t, strings.Replace(halfTakenOver, "mode: multitenant", "mode: subnet", 1), f)
	})
}

func takeOverTenants(t *testing.T, topology string, f former) {
	t.Helper()
	c := up(t, topology)
	agent := c.becomeAncestor("node1", f)
	all := slices.Concat(inherited, others)
	for _, p := range all {
		c.start(inPod(p.pod), "serve", port, p.pod)
	}
	c.awaitMixed(t)
	t.Run("mixed", func(t *testing.T) { c.in(t).wantPairsOf(t, all, f.vnids) })
	for _, at := range []place{inPod("red/b"), inPod("red/c"), onOutside("outside")} {
		c.start(at, "reply", replies)
	}
	c.takeOver(t, "node1", agent, []trip{
		{inPod("red/a"), c.podIP("red/b") + ":" + replies}, {inPod("red/a"), c.podIP("red/c") + ":" + replies},
		{inPod("red/d"), c.podIP("red/b") + ":" + replies}, {inPod("blue/a"), c.outsideIP("outside") + ":" + replies},
	})
	t.Run("taken over", func(t *testing.T) { c.in(t).wantPairsOf(t, all, f.vnids) })
	c.wantFlowsFromScratch(t, "node1")
	c.wantNothingOfTheAncestor(t, "node1", inherited)
	c.wantInheritedPodsLiveOn(t)
}

// becomeAncestor makes a node without an agent one of OpenShift SDN's, with its pods. It
// answers the agent.
func (c *cluster) becomeAncestor(name string, f former) *background {
	c.t.Helper()
	self := c.node(name)
	config := ancestor.Config{
		Mode: f.mode, HostIP: netip.MustParseAddr(self.GetIp()), Device: "eth0", Subnet: netip.MustParsePrefix(self.GetSubnet()),
		ClusterNetwork: netip.MustParsePrefix("10.128.0.0/14"), ServiceNetwork: netip.MustParsePrefix("172.30.0.0/16"),
		VXLANPort: 4789, MTU: podMTU, Userspace: userspace(), VNIDs: map[string]uint32{},
	}
	if config.Userspace {
		config.Device = "br-phy"
	}
	for namespace, vnid := range f.vnids {
		config.VNIDs[namespace] = uint32(vnid)
	}
	for _, n := range c.known().GetNodes() {
		if n.GetName() != name {
			config.Remotes = append(config.Remotes, ancestor.Remote{
				UID: "uid of " + n.GetName(), HostIP: netip.MustParseAddr(n.GetIp()), Subnet: netip.MustParsePrefix(n.GetSubnet()),
			})
		}
	}
	if f.more != nil {
		f.more(&config)
	}
	text, err := json.Marshal(config)
	if err != nil {
		c.t.Fatal(err)
	}
	file := filepath.Join(c.t.TempDir(), "ancestor.json")
	for path, content := range map[string]string{
		file: string(text),
		filepath.Join(self.GetDisk(), "opt/cni/bin/openshift-sdn"):               "#!/bin/sh\nexec " + probeBinary + " ancestor-plugin\n",
		filepath.Join(self.GetDisk(), "etc/cni/net.d/80-openshift-network.conf"): `{"cniVersion": "0.3.1", "name": "openshift-sdn", "type": "openshift-sdn"}`,
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			c.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			c.t.Fatal(err)
		}
	}
	agent := c.start(onNode(name), "ancestor", file)
	for _, p := range f.pods {
		c.run("lab", "pod", "add", "--name", c.name, p.pod, "--node", name)
	}
	c.lab = nil
	return agent
}

// awaitMixed returns when pods of all nodes have heard of one another: a switch in
// userspace loses the first packet to a neighbour.
func (c *cluster) awaitMixed(t *testing.T) {
	t.Helper()
	for _, from := range []string{"red/a", "red/c", "red/d"} {
		c.eventually(t, from+" reaches its tenant's other pods", func() bool {
			for _, r := range c.check(inPod(from), "icmp "+c.podIP("red/b")+" 56", "icmp "+c.podIP("red/c")+" 56", "icmp "+c.podIP("red/d")+" 56") {
				if !r.OK && !strings.Contains(r.Check, c.podIP(from)+" ") {
					return false
				}
			}
			return true
		})
	}
}

// replies is where the other ends of traffic listen.
const replies = "9000"

// takeOver starts Damask's agent, which waits, and has the other one end, while traffic goes
// all ways, and none of it may be lost. In userspace the switch forwards by the same thread
// that takes in its configuration, so packets wait for it longer than OpenShift SDN ever had
// to: the queues in front of it get the room for that.
func (c *cluster) takeOver(t *testing.T, name string, agent *background, ways []trip) {
	t.Helper()
	before, rules := c.flowLines(name), c.rulesOf(name)
	started := make(chan error, 1)
	go func() {
		out, err := c.try("lab", "start", "--name", c.name, name, "nodeagent")
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		started <- err
	}()
	c.eventuallyWithin(t, time.Minute, "the agent says that it waits for the other one", func() bool {
		out, _ := c.try("--lab", c.name, "get", "nodes", "-o", "wide")
		return strings.Contains(out, "the agent of OpenShift SDN is at work")
	})
	c.deepenQueues(t)
	calm, while := calm(), 4*time.Second
	quiet, queued := c.lostOn(t, ways, calm, func() { time.Sleep(while) })
	t.Logf("figure: lost %d datagrams while nothing happened, %d packets to queues that were full", quiet, queued)
	if after := c.flowLines(name); !slices.Equal(before, after) {
		t.Errorf("while two agents ran the flows were\n%s\nand are\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	if after := c.rulesOf(name); !slices.Equal(rules, after) {
		t.Errorf("while two agents ran the rules were\n%s\nand are\n%s", strings.Join(rules, "\n"), strings.Join(after, "\n"))
	}
	lost, queued := c.lostOn(t, ways, calm, func() {
		begin := time.Now()
		agent.end(t)
		if err := <-started; err != nil {
			t.Fatal(err)
		}
		t.Logf("figure: from the end of one agent to the other being ready: %s", time.Since(begin))
		time.Sleep(while / 2) // what is cached is thrown away after that
	})
	t.Logf("figure: lost %d datagrams while the node was taken over, %d packets to queues that were full", lost, queued)
	if lost != 0 {
		t.Errorf("%d datagrams were lost while the node was taken over, at most %d of them to queues that were full:\n%s", lost, queued,
			c.exec(onNode(name), "ovs-ofctl", "-O", "OpenFlow13", "dump-flows", "br0"))
	}
	c.lab = nil
}

// calm is the pause between two packets of traffic of which none may be lost. Where the
// processor is emulated, DAMASK_CALM asks for longer ones.
func calm() string { return cmp.Or(os.Getenv("DAMASK_CALM"), "20ms") }

// lostOn answers how many datagrams were lost while something happened, and how many packets,
// of whatever kind, queues in front of a switch had no room for.
func (c *cluster) lostOn(t *testing.T, ways []trip, pace string, happens func()) (lost, queued int64) {
	t.Helper()
	before := c.queuesOverflown(t)
	seen := c.trafficOn(t, ways, pace, happens)
	for i, s := range seen {
		if s.UDPSent < 50 || s.Connected < 5 {
			t.Errorf("%s: there was hardly any traffic: %+v", ways[i], s)
		}
	}
	return lostOf(seen), c.queuesOverflown(t) - before
}

// wantNothingOfTheAncestor looks for what only OpenShift SDN has.
func (c *cluster) wantNothingOfTheAncestor(t *testing.T, name string, pods []tenant) {
	t.Helper()
	rules := c.exec(onNode(name), "iptables-save")
	for _, former := range []string{"OPENSHIFT-MASQUERADE-2", "OPENSHIFT-SDN-CANARY"} {
		if strings.Contains(rules, former) {
			t.Errorf("%s has %s still:\n%s", name, former, rules)
		}
	}
	if !strings.Contains(rules, "-j OPENSHIFT-BLOCK-OUTPUT") {
		t.Error("the block of the machine config server is gone")
	}
	var names []string
	for _, p := range c.portsOf(name) {
		names = append(names, p.namespace+"/"+p.name)
	}
	slices.Sort(names)
	var want []string
	for _, p := range pods {
		want = append(want, p.pod)
	}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("ports are %v, want %v", names, want)
	}
}

// wantInheritedPodsLiveOn treats pods that were taken over as any others: they are in the
// registry, an agent's restart changes nothing, one goes and another comes.
func (c *cluster) wantInheritedPodsLiveOn(t *testing.T) {
	t.Helper()
	c.eventually(t, "the registry has the pods that were taken over", func() bool {
		pods := c.ctl("get", "pods", "-o", "wide")
		for _, p := range inherited {
			if !strings.Contains(pods, c.podIP(p.pod)) {
				return false
			}
		}
		return true
	})
	before := c.flowLines("node1")
	c.run("lab", "kill", "--name", c.name, "node1", "nodeagent", "--signal", "KILL")
	c.run("lab", "start", "--name", c.name, "node1", "nodeagent")
	if after := c.flowLines("node1"); !slices.Equal(before, after) {
		t.Errorf("a restart changed flows from\n%s\nto\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	gone := c.podIP("red/b")
	c.run("lab", "pod", "delete", "--name", c.name, "red/b")
	c.run("lab", "pod", "add", "--name", c.name, "red/new", "--node", "node1")
	c.lab = nil
	for _, p := range inherited {
		if c.podIP("red/new") == gone || p.pod != "red/b" && c.podIP("red/new") == c.podIP(p.pod) {
			t.Errorf("a new pod has the address %s", c.podIP("red/new"))
		}
	}
	wantAll(t, inPod("red/new"), c.check(inPod("red/new"), "icmp "+c.podIP("red/a")+" 56", "icmp "+c.podIP("red/c")+" 56", "icmp "+c.podIP("default/a")+" 56"))
	c.wantFlowsFromScratch(t, "node1")
}
