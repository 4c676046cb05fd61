package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// castGroup is where the pods of these tests meet. Everybody joins the same, so that
// the network alone tells tenants apart.
const castGroup = "239.1.2.3:9100"

// Red has two pods on node1 and one on node2, blue one on each, default one on each; red
// starts with multicast. Node3 has a pod of green only: it gets what red sends, and
// nobody on it may hear it.
const multicastTopology = `
nodes: [{name: node1}, {name: node2}, {name: node3}]
namespaces:
- {name: red, multicast: true}
- {name: blue}
- {name: green}
pods:
- {namespace: red, name: a, node: node1}
- {namespace: red, name: b, node: node1}
- {namespace: red, name: c, node: node2}
- {namespace: blue, name: a, node: node1}
- {namespace: blue, name: b, node: node2}
- {namespace: default, name: a, node: node1}
- {namespace: default, name: b, node: node2}
- {namespace: green, name: a, node: node3}
`

// multicastPods are all pods of the topology, and where they run.
var multicastPods = map[string]string{
	"red/a": "node1", "red/b": "node1", "red/c": "node2", "blue/a": "node1", "blue/b": "node2",
	"default/a": "node1", "default/b": "node2", "green/a": "node3",
}

// wantCast has every pod send once while all of them listen. Want is who hears whom,
// by namespace; a pod hears itself by its own kernel, once.
func (c *cluster) wantCast(t *testing.T, want map[string][]string) {
	t.Helper()
	pods := slices.Sorted(maps.Keys(multicastPods))
	ears := map[string]*background{}
	for _, pod := range pods {
		ears[pod] = c.start(inPod(pod), "join", castGroup)
	}
	for _, pod := range pods {
		c.exec(inPod(pod), probeBinary, "cast", castGroup, "from-"+pod)
	}
	// The node sends too, by each address that it has in the pod network: what it casts shall
	// come to the switch, to be refused there. An agent that starts takes foreign routes away.
	for _, node := range []string{"node1", "node2"} {
		c.exec(onNode(node), "ip", "route", "replace", "239.1.2.3/32", "dev", "tun0")
		c.forge(onNode(node), fmt.Sprintf("udp %s 239.1.2.3 9100 from-%s", c.gatewayIP(node), node))
	}
	// What was sent before an echo on the same way has arrived or never will.
	for _, pod := range pods {
		for _, node := range []string{"node1", "node2", "node3"} {
			c.settle(onNode(node), pod)
		}
	}
	for _, pod := range pods {
		var expected []heard
		for _, from := range pods {
			if from == pod || slices.Contains(want[namespaceOf(pod)], namespaceOf(from)) {
				expected = append(expected, heard{c.podIP(from), "from-" + from})
			}
		}
		got := ears[pod].heard(t)
		slices.SortFunc(got, func(a, b heard) int { return strings.Compare(a.Text, b.Text) })
		if !slices.Equal(got, expected) {
			t.Errorf("%s on %s heard %v, want %v", pod, multicastPods[pod], got, expected)
		}
	}
}

// gatewayIP is the address that a node has in the pod network.
func (c *cluster) gatewayIP(node string) string {
	out := c.exec(onNode(node), "ip", "-4", "-o", "address", "show", "dev", "tun0")
	address, _, _ := strings.Cut(strings.Fields(out)[3], "/")
	return address
}

// TestMulticastReachesTheTenantsPodsOnceAndNobodyElse turns multicast on and off while
// the cluster runs. Each change is in force when the command returns.
func TestMulticastReachesTheTenantsPodsOnceAndNobodyElse(t *testing.T) {
	c := up(t, multicastTopology)
	red, blue := []string{"red"}, []string{"blue"}
	for _, s := range []struct {
		name   string
		change []string
		want   map[string][]string
	}{
		{"one tenant has it from the start", nil, map[string][]string{"red": red}},
		{"a second one", []string{"multicast", "enable", "blue"}, map[string][]string{"red": red, "blue": blue}},
		{"VNID 0 is a tenant like others", []string{"multicast", "enable", "default"},
			map[string][]string{"red": red, "blue": blue, "default": {"default"}}},
		{"joined, and both have it", []string{"pod-network", "join-projects", "--to", "red", "blue"},
			map[string][]string{"red": {"red", "blue"}, "blue": {"red", "blue"}, "default": {"default"}}},
		{"joined, and one has it", []string{"multicast", "disable", "blue", "default"}, map[string][]string{"red": red}},
		{"apart again", []string{"pod-network", "isolate-projects", "blue"}, map[string][]string{"red": red}},
		{"nobody", []string{"multicast", "disable", "red"}, nil},
	} {
		t.Run(s.name, func(t *testing.T) {
			if s.change != nil {
				c.ctl(s.change...)
			}
			c.wantCast(t, s.want)
		})
	}
	t.Run("pods have other ports when an agent starts", c.wantCastByOtherPorts)
	t.Run("it is turned off while an agent is away", c.wantNoCastAfterAbsence)
}

// unplugging gives the numbers of a node's pods to ports of somebody else.
const unplugging = `for port in $(ovs-vsctl list-ports br0 | grep ^veth); do
	number=$(ovs-vsctl get Interface $port ofport)
	ovs-vsctl del-port $port -- add-port br0 other$number -- set Interface other$number type=internal ofport_request=$number
done`

// wantCastByOtherPorts unplugs the node's pods while its agent is away, so that it must plug
// them in once more, at other numbers than it knows.
func (c *cluster) wantCastByOtherPorts(t *testing.T) {
	c.ctl("multicast", "enable", "red")
	before := c.ofports("node1")
	c.run("lab", "kill", "--name", c.name, "node1", "nodeagent", "--signal", "KILL")
	c.exec(onNode("node1"), "sh", "-c", unplugging)
	c.run("lab", "start", "--name", c.name, "node1", "nodeagent")
	c.eventually(t, "pods talk again", func() bool {
		return c.check(inPod("red/a"), "icmp "+c.podIP("red/c")+" 56")[0].OK && c.check(inPod("red/b"), "icmp "+c.podIP("red/c")+" 56")[0].OK
	})
	if after := c.ofports("node1"); len(after) != len(before) || maps.Equal(before, after) {
		t.Fatalf("pods had ports %v, and now %v: that proves nothing", before, after)
	}
	c.wantCast(t, map[string][]string{"red": {"red"}})
}

// wantNoCastAfterAbsence disables it when the node's agent cannot hear of it.
func (c *cluster) wantNoCastAfterAbsence(t *testing.T) {
	senders := func() int { return strings.Count(c.ctl("flows", "node1", "--table", "110"), "goto_table:111") }
	if n := senders(); n != 2 {
		t.Fatalf("%d pods of node1 may send, want red's two", n)
	}
	c.run("lab", "kill", "--name", c.name, "node1", "nodeagent", "--signal", "KILL")
	c.ctl("multicast", "disable", "red", "--wait=false")
	c.run("lab", "start", "--name", c.name, "node1", "nodeagent")
	c.eventually(t, "nobody may send", func() bool { return senders() == 0 })
	c.wantCast(t, nil)
}
