package lab

import (
	"fmt"
	"strings"
	"testing"
)

// podMTU is the underlay's 1500 bytes less VXLAN's 50 over IPv4 (RFC 7348).
const podMTU = 1450

// headers of IPv4 and of ICMP echo or UDP, which count into the MTU.
const ipAndL4Headers = 20 + 8

// port is where every probe server of these tests listens.
const port = "8080"

// tenant is what the model knows of a pod: nothing but whose it is and where.
type tenant struct {
	pod       string
	namespace string
	node      string
}

// mayTalk is the whole model of multitenant isolation: one VNID, or VNID 0 at
// either end.
func mayTalk(vnid map[string]int, a, b string) bool {
	return vnid[a] == vnid[b] || vnid[a] == 0 || vnid[b] == 0
}

const twoTenants = `
mode: multitenant
clusterNetworks: [{cidr: 10.128.0.0/14, hostSubnetLength: 9}]
serviceNetwork: 172.30.0.0/16
nodes: [{name: node1}, {name: node2}]
namespaces:
- {name: red}
- {name: blue}
pods:
- {namespace: red, name: a, node: node1}
- {namespace: red, name: b, node: node1}
- {namespace: red, name: c, node: node2}
- {namespace: blue, name: a, node: node1}
- {namespace: blue, name: b, node: node2}
- {namespace: default, name: a, node: node1}
- {namespace: default, name: b, node: node2}
`

var tenants = []tenant{
	{"red/a", "red", "node1"}, {"red/b", "red", "node1"}, {"red/c", "red", "node2"},
	{"blue/a", "blue", "node1"}, {"blue/b", "blue", "node2"},
	{"default/a", "default", "node1"}, {"default/b", "default", "node2"},
}

func TestEveryPairOfPodsReachesEachOtherAsTheirTenantsSay(t *testing.T) {
	c := up(t, twoTenants)
	for _, p := range tenants {
		c.start(inPod(p.pod), "serve", port, p.pod)
	}
	vnid := map[string]int{"red": 1001, "blue": 1002, "default": 0} // any numbers: only equality and 0 matter

	t.Run("isolated", func(t *testing.T) { c.wantPairs(t, vnid) })

	t.Run("joined", func(t *testing.T) {
		c.ctl("pod-network", "join-projects", "--to", "red", "blue")
		vnid["blue"] = vnid["red"]
		c.wantPairs(t, vnid)
	})
	t.Run("isolated again", func(t *testing.T) {
		c.ctl("pod-network", "isolate-projects", "blue")
		vnid["blue"] = 1003
		c.wantPairs(t, vnid)
	})
	t.Run("global", func(t *testing.T) {
		c.ctl("pod-network", "make-projects-global", "blue")
		vnid["blue"] = 0
		c.wantPairs(t, vnid)
	})
	t.Run("subnet mode", func(t *testing.T) {
		c.ctl("pod-network", "isolate-projects", "blue")
		c.ctl("mode", "set", "subnet")
		c.wantPairs(t, map[string]int{})
	})
	t.Run("multitenant mode again", func(t *testing.T) {
		c.ctl("mode", "set", "multitenant")
		vnid["blue"] = 1004
		c.wantPairs(t, vnid)
	})

	t.Run("nodes and pods", c.wantNodesAndPods)
	t.Run("outside", c.wantOutside)
	t.Run("lies", c.wantLiesDropped)
}

// wantPairs tries every pair of the tenants' pods.
func (c *cluster) wantPairs(t *testing.T, vnid map[string]int) {
	t.Helper()
	c.wantPairsOf(t, tenants, vnid)
}

// wantPairsOf tries every pair of pods with three protocols, also at full MTU.
func (c *cluster) wantPairsOf(t *testing.T, pods []tenant, vnid map[string]int) {
	for _, from := range pods {
		var lines []string
		var to []tenant
		for _, other := range pods {
			if other == from {
				continue
			}
			ip := c.podIP(other.pod)
			full := podMTU - ipAndL4Headers
			for _, line := range []string{
				fmt.Sprintf("icmp %s 56", ip), fmt.Sprintf("icmp %s %d", ip, full),
				fmt.Sprintf("udp %s:%s 100", ip, port), fmt.Sprintf("udp %s:%s %d", ip, port, full),
				fmt.Sprintf("tcp %s:%s 200000", ip, port),
			} {
				// The server's answer to a full-size UDP packet carries its
				// greeting too, and would not fit: leave room for it.
				if strings.HasPrefix(line, "udp") && strings.HasSuffix(line, fmt.Sprint(full)) {
					line = fmt.Sprintf("udp %s:%s %d", ip, port, full-40)
				}
				lines, to = append(lines, line), append(to, other)
			}
		}
		t.Run("from "+strings.ReplaceAll(from.pod, "/", " "), func(t *testing.T) {
			for i, r := range c.check(inPod(from.pod), lines...) {
				want := mayTalk(vnid, from.namespace, to[i].namespace)
				if r.OK != want {
					t.Errorf("%s (%s) to %s (%s), %s: reached %t, want %t (%s)",
						from.pod, from.node, to[i].pod, to[i].node, r.Check, r.OK, want, r.Error)
				}
				if r.OK && r.Server != "" && (r.Server != to[i].pod || r.Source != c.podIP(from.pod)) {
					t.Errorf("%s to %s, %s: answered by %s, which saw %s", from.pod, to[i].pod, r.Check, r.Server, r.Source)
				}
			}
		})
	}
}

// wantNodesAndPods tries each node with each pod, both ways: a node reaches
// every pod, and every pod reaches both addresses of every node.
func (c *cluster) wantNodesAndPods(t *testing.T) {
	for _, n := range []string{"node1", "node2"} {
		c.start(onNode(n), "serve", port, n)
	}
	for _, n := range []string{"node1", "node2"} {
		var lines []string
		for _, p := range tenants {
			lines = append(lines, fmt.Sprintf("icmp %s 56", c.podIP(p.pod)), fmt.Sprintf("icmp %s %d", c.podIP(p.pod), podMTU-ipAndL4Headers),
				fmt.Sprintf("tcp %s:%s 100000", c.podIP(p.pod), port), fmt.Sprintf("udp %s:%s 100", c.podIP(p.pod), port))
		}
		wantAll(t, onNode(n), c.check(onNode(n), lines...))
	}
	for _, p := range tenants {
		var lines []string
		for _, n := range []string{"node1", "node2"} {
			for _, ip := range []string{c.nodeIP(n), c.gateway(n)} {
				lines = append(lines, fmt.Sprintf("icmp %s 56", ip), fmt.Sprintf("tcp %s:%s 100000", ip, port), fmt.Sprintf("udp %s:%s 100", ip, port))
			}
		}
		wantAll(t, inPod(p.pod), c.check(inPod(p.pod), lines...))
	}
}

// wantOutside tries pods with an outside host: out, masqueraded as the node;
// and in, by the routes that the outside host has.
func (c *cluster) wantOutside(t *testing.T) {
	at := onOutside("outside")
	c.start(at, "serve", port, "outside")
	ip := c.outsideIP("outside")
	for _, p := range tenants {
		results := c.check(inPod(p.pod), fmt.Sprintf("icmp %s 56", ip), fmt.Sprintf("icmp %s %d", ip, podMTU-ipAndL4Headers),
			fmt.Sprintf("tcp %s:%s 100000", ip, port), fmt.Sprintf("udp %s:%s 100", ip, port))
		wantAll(t, inPod(p.pod), results)
		for _, r := range results {
			if r.Server != "" && r.Source != c.nodeIP(p.node) {
				t.Errorf("%s to the outside, %s: seen as %s, want the address of %s, %s", p.pod, r.Check, r.Source, p.node, c.nodeIP(p.node))
			}
		}
	}
	var lines []string
	for _, p := range tenants {
		lines = append(lines, fmt.Sprintf("icmp %s 56", c.podIP(p.pod)), fmt.Sprintf("tcp %s:%s 100000", c.podIP(p.pod), port), fmt.Sprintf("udp %s:%s 100", c.podIP(p.pod), port))
	}
	results := c.check(at, lines...)
	wantAll(t, at, results)
	for _, r := range results {
		if r.Source != "" && r.Source != ip {
			t.Errorf("outside to a pod, %s: the pod saw %s, want %s", r.Check, r.Source, ip)
		}
	}
}

func wantAll(t *testing.T, from place, results []checkResult) {
	t.Helper()
	for _, r := range results {
		if !r.OK {
			t.Errorf("%s: %s: %s", from, r.Check, r.Error)
		}
	}
}
