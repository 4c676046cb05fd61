package lab

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Red may have egress routers, blue may not. The router is on node1, whoever asks it on
// both nodes; what it leads to is outside.
const routerTopology = `
nodes: [{name: node1, ip: 192.168.108.11}, {name: node2, ip: 192.168.108.12}]
outside: [{name: outside, ip: 192.168.108.200}]
namespaces:
- {name: red, egressRouters: [192.168.108.96/28]}
- {name: blue}
pods:
- namespace: red
  name: router
  node: node1
  annotations:
    pod.network.openshift.io/assign-macvlan: "true"
    egress-router.damask/EGRESS_SOURCE: 192.168.108.99/24
    egress-router.damask/EGRESS_GATEWAY: 192.168.108.200
    egress-router.damask/EGRESS_DESTINATION: |
      # The only service outside that red has.
      7000 tcp 192.168.108.200 9000
      7000 udp 192.168.108.200 9000
- {namespace: red, name: near, node: node1}
- {namespace: red, name: far, node: node2}
- {namespace: blue, name: a, node: node1}
`

// TestAnEgressRouterIsSeenOutsideByItsOwnAddress has pods of both nodes ask a service
// outside by the router, and by themselves.
func TestAnEgressRouterIsSeenOutsideByItsOwnAddress(t *testing.T) {
	c := up(t, routerTopology)
	c.start(onOutside("outside"), "serve", "9000", "outside")
	ask := func(t *testing.T, pod, address, source string) {
		t.Helper()
		for _, r := range c.check(inPod(pod), "tcp "+address+" 10", "udp "+address+" 10") {
			if !r.OK || r.Server != "outside" || r.Source != source {
				t.Errorf("%s: %+v, want the host outside to see %s", pod, r, source)
			}
		}
	}
	all := func(t *testing.T) {
		t.Helper()
		for pod, node := range map[string]string{"red/near": "node1", "red/far": "node2"} {
			ask(t, pod, c.podIP("red/router")+":7000", "192.168.108.99")
			ask(t, pod, "192.168.108.200:9000", c.nodeIP(node))
		}
	}
	t.Run("from both nodes", all)
	t.Run("another tenant does not reach it", func(t *testing.T) {
		for _, r := range c.check(inPod("blue/a"), "tcp "+c.podIP("red/router")+":7000 10") {
			if r.OK {
				t.Errorf("got %+v", r)
			}
		}
	})
	t.Run("while the agent is away, and after", func(t *testing.T) {
		c.run("lab", "kill", "--name", c.name, "node1", "nodeagent")
		all(t)
		c.run("lab", "start", "--name", c.name, "node1", "nodeagent")
		c.ctl("audit", "node1")
		all(t)
	})
	t.Run("the node still reaches it", func(t *testing.T) { c.settle(onNode("node1"), "red/router") })
	t.Run("who may not is told why", func(t *testing.T) {
		args := []string{"lab", "pod", "add", "--name", c.name, "blue/router", "--node", "node2"}
		for _, annotation := range []string{
			"pod.network.openshift.io/assign-macvlan=true", "egress-router.damask/EGRESS_SOURCE=192.168.108.100",
			"egress-router.damask/EGRESS_GATEWAY=192.168.108.200", "egress-router.damask/EGRESS_DESTINATION=192.168.108.200",
		} {
			args = append(args, "--annotation", annotation)
		}
		out, err := c.try(args...)
		if err == nil || !strings.Contains(out, "namespace blue may have no egress routers") {
			t.Fatalf("%v: %s", err, out)
		}
		if out := c.ctl("egress-router", "allow", "blue", "192.168.108.100/32"); !strings.Contains(out, "netnamespace blue may have egress routers of 192.168.108.100/32, in force on 2 nodes") {
			t.Fatal(out)
		}
		c.run(args...)
		if got := addresses(c, "blue/router"); !slices.Contains(got, "192.168.108.100/32") {
			t.Errorf("blue's router has %q", got)
		}
	})
	t.Run("its address is free when it goes", func(t *testing.T) {
		c.run("lab", "pod", "delete", "--name", c.name, "red/router")
		result := c.check(onOutside("outside"), "icmp 192.168.108.99 56")
		if result[0].OK {
			t.Errorf("somebody still answers: %+v", result)
		}
	})
}

// addresses are all that a pod has.
func addresses(c *cluster, pod string) []string {
	c.t.Helper()
	var all []string
	for line := range strings.Lines(c.exec(inPod(pod), "ip", "-4", "-o", "address", "show")) {
		if fields := strings.Fields(line); len(fields) > 3 {
			all = append(all, fmt.Sprint(fields[3]))
		}
	}
	return all
}
