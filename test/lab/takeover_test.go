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

// formerVNIDs are what OpenShift SDN's node and Damask's both were told.
var formerVNIDs = map[string]int{"red": 1001, "blue": 8583346, "default": 0}

// TestANodeOfTheAncestorIsTakenOverUnderTraffic has a node programmed flow by flow as
// OpenShift SDN does it beside two of Damask's: they exchange packets as tenants say.
// Then Damask's agent starts there, waits for the other one to end, and takes the node
// with its pods, while packets flow. A loaded machine loses packets by itself, so a try
// counts against the takeover only if an equally long time before it lost nothing.
func TestANodeOfTheAncestorIsTakenOverUnderTraffic(t *testing.T) {
	for try, against := 1, 0; ; try++ {
		c := upAs(t, fmt.Sprintf("%s%d", labName(t), try), halfTakenOver)
		agent := c.becomeAncestor("node1")
		for _, p := range slices.Concat(inherited, others) {
			c.start(inPod(p.pod), "serve", port, p.pod)
		}
		c.awaitMixed(t)
		if try == 1 {
			t.Run("mixed", func(t *testing.T) { c.in(t).wantPairsOf(t, slices.Concat(inherited, others), formerVNIDs) })
		}
		quiet, lost := c.takeOver(t, "node1", agent)
		t.Logf("figure: lost %d datagrams while the node was taken over, %d beside", lost, quiet)
		if lost > 0 && quiet == 0 {
			against++
		}
		switch {
		case t.Failed() || against == 2:
			t.Fatal("the takeover is seen on the wire")
		case lost > 0 && try < 4:
			continue
		case lost > 0:
			t.Fatal("this machine was never quiet enough to tell")
		}
		t.Run("taken over", func(t *testing.T) { c.in(t).wantPairsOf(t, slices.Concat(inherited, others), formerVNIDs) })
		c.wantFlowsFromScratch(t, "node1")
		c.wantNothingOfTheAncestor(t, "node1")
		c.wantInheritedPodsLiveOn(t)
		return
	}
}

// becomeAncestor makes a node without an agent one of OpenShift SDN's, with its pods. It
// answers the agent.
func (c *cluster) becomeAncestor(name string) *background {
	c.t.Helper()
	self := c.node(name)
	config := ancestor.Config{
		HostIP: netip.MustParseAddr(self.GetIp()), Device: "eth0", Subnet: netip.MustParsePrefix(self.GetSubnet()),
		ClusterNetwork: netip.MustParsePrefix("10.128.0.0/14"), ServiceNetwork: netip.MustParsePrefix("172.30.0.0/16"),
		VXLANPort: 4789, MTU: podMTU, Userspace: userspace(), VNIDs: map[string]uint32{},
	}
	if config.Userspace {
		config.Device = "br-phy"
	}
	for namespace, vnid := range formerVNIDs {
		config.VNIDs[namespace] = uint32(vnid)
	}
	for _, n := range c.known().GetNodes() {
		if n.GetName() != name {
			config.Remotes = append(config.Remotes, ancestor.Remote{
				UID: "uid of " + n.GetName(), HostIP: netip.MustParseAddr(n.GetIp()), Subnet: netip.MustParsePrefix(n.GetSubnet()),
			})
		}
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
	for _, p := range inherited {
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

// takeOver starts Damask's agent, which waits, and has the other one end. It answers how
// many datagrams were lost in a quiet time before, and meanwhile.
func (c *cluster) takeOver(t *testing.T, name string, agent *background) (quiet, lost int64) {
	t.Helper()
	const replies = "9000"
	for _, at := range []place{inPod("red/b"), inPod("red/c"), onOutside("outside")} {
		c.start(at, "reply", replies)
	}
	ways := []trip{
		{inPod("red/a"), c.podIP("red/b") + ":" + replies}, {inPod("red/a"), c.podIP("red/c") + ":" + replies},
		{inPod("red/d"), c.podIP("red/b") + ":" + replies}, {inPod("blue/a"), c.outsideIP("outside") + ":" + replies},
	}
	before := c.flowLines(name)
	started := make(chan error, 1)
	go func() {
		out, err := c.try("lab", "start", "--name", c.name, name, "nodeagent")
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		started <- err
	}()
	c.eventually(t, "the agent says that it waits for the other one", func() bool {
		out, _ := c.try("--lab", c.name, "get", "nodes", "-o", "wide")
		return strings.Contains(out, "the agent of OpenShift SDN is at work")
	})
	// In userspace the switch forwards by the same thread that takes in its configuration:
	// what is sent meanwhile must fit into the sockets' queues, however busy the machine.
	calm, while := cmp.Or(os.Getenv("DAMASK_PACE"), "20ms"), 4*time.Second
	quiet = lostOf(c.trafficOn(t, ways, calm, func() { time.Sleep(while) }))
	if after := c.flowLines(name); !slices.Equal(before, after) {
		t.Errorf("while two agents ran the flows were\n%s\nand are\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	seen := c.trafficOn(t, ways, calm, func() {
		begin := time.Now()
		agent.end(t)
		if err := <-started; err != nil {
			t.Fatal(err)
		}
		t.Logf("figure: from the end of one agent to the other being ready: %s", time.Since(begin))
		time.Sleep(while / 2) // what is cached is thrown away after that
	})
	for i, s := range seen {
		if s.UDPSent < 50 || s.Connected < 10 {
			t.Errorf("%s: there was hardly any traffic: %+v", ways[i], s)
		}
	}
	c.lab = nil
	return quiet, lostOf(seen)
}

// wantNothingOfTheAncestor looks for what only OpenShift SDN has.
func (c *cluster) wantNothingOfTheAncestor(t *testing.T, name string) {
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
	if want := []string{"blue/a", "default/a", "red/a", "red/b"}; !slices.Equal(names, want) {
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
