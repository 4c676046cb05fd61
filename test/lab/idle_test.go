package lab

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// idleTopology has a service whose endpoints the test sets by hand.
const idleTopology = `
mode: multitenant
clusterNetworks: [{cidr: 10.128.0.0/14, hostSubnetLength: 9}]
serviceNetwork: 172.30.0.0/16
serviceEngine: ENGINE
nodes: [{name: node1}, {name: node2}]
namespaces: [{name: red}, {name: blue}]
pods:
- {namespace: red, name: client, node: node1}
- {namespace: red, name: b0, node: node2}
- {namespace: blue, name: client, node: node1}
services:
- namespace: red
  name: hand
  type: NodePort
  clusterIP: 172.30.0.20
  ports: [{name: tcp, port: 80, nodePort: 30090}, {name: udp, port: 80, protocol: UDP, nodePort: 30090}]
`

// TestAnIdledServiceKeepsItsFirstClientsUntilItHasEndpoints idles a service twice
// while clients come: none of them fails, and the backend sees them as ever.
func TestAnIdledServiceKeepsItsFirstClientsUntilItHasEndpoints(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			c := up(t, strings.Replace(idleTopology, "ENGINE", engine, 1))
			c.serveAll("8080", "red/b0")
			const service = "172.30.0.20:80"
			for range 2 {
				c.apply(t, slice("red/hand", 8080))
				c.ctl("service", "idle", "red/hand")
				for _, node := range []string{"node1", "node2"} {
					c.eventually(t, node+" holds packets to the service", func() bool { return strings.Contains(c.heldOn(node), "red/hand") })
				}
				c.wantUnanswered(t, inPod("blue/client"), silence, service)
				if got := c.waiting("node1"); got != 0 {
					t.Errorf("%d packets of another tenant wait", got)
				}
				running := map[string]*background{}
				for protocol, at := range map[string]place{"tcp": inPod("red/client"), "udp": inPod("red/client")} {
					running[protocol] = c.start(at, "load", protocol, service, "rate", "5")
				}
				outside := c.start(onOutside("outside"), "load", "tcp", c.nodeIP("node1")+":30090", "rate", "5")
				c.eventually(t, "packets wait on node1", func() bool { return c.waiting("node1") >= 3 })
				began := time.Now()
				c.apply(t, slice("red/hand", 8080, atNode(c.podIP("red/b0"), "node2")))
				t.Logf("endpoints in force on all nodes after %v", time.Since(began).Round(time.Millisecond))
				pause(300 * time.Millisecond)
				for protocol, b := range running {
					got := readShares(t, b.end(t))
					want := "b0 " + c.podIP("red/client")
					if got.Answers[want] < 2 || len(got.Answers) != 1 || len(got.Errors) > 0 {
						t.Errorf("%s: got %+v, want %q alone", protocol, got, want)
					}
				}
				if got := readShares(t, outside.end(t)); got.by()["b0"] < 2 || len(got.Errors) > 0 {
					t.Errorf("from outside by the node port: got %+v", got)
				}
				for _, node := range []string{"node1", "node2"} {
					if held := c.heldOn(node); held != "" {
						t.Errorf("%s still holds:\n%s", node, held)
					}
				}
			}
			if engine == "iptables" { // What follows is the switch's.
				c.in(t).wantPoliciesJudgeWhatWaited(t, service)
			}
		})
	}
}

// wantPoliciesJudgeWhatWaited idles the service once more, where policies decide and only
// blue may enter the backend: of those who waited, the others never reach it.
func (c *cluster) wantPoliciesJudgeWhatWaited(t *testing.T, service string) {
	t.Helper()
	c.ctl("mode", "set", "networkpolicy")
	c.storePolicy(t, "red", "blue-alone", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: blue}}}]}]}`)
	c.apply(t, slice("red/hand", 8080))
	c.ctl("service", "idle", "red/hand")
	c.eventually(t, "node1 holds packets to the service", func() bool { return strings.Contains(c.heldOn("node1"), "red/hand") })
	eye := c.start(inPod("red/b0"), "witness")
	running := map[string][]*background{}
	for i, client := range []string{"red/client", "blue/client"} {
		for _, protocol := range []string{"tcp", "udp"} {
			running[client] = append(running[client], c.start(inPod(client), "load", protocol, service, "rate", "5"))
		}
		// Red waits before blue is there.
		c.eventually(t, client+" waits on node1", func() bool { return c.waiting("node1") >= 2*(i+1) })
	}
	c.apply(t, slice("red/hand", 8080, atNode(c.podIP("red/b0"), "node2")))
	pause(300 * time.Millisecond)
	for client, both := range running {
		for _, b := range both {
			got := readShares(t, b.end(t))
			if client == "blue/client" && (got.by()["b0"] < 2 || len(got.Errors) > 0) || client == "red/client" && (len(got.Answers) > 0 || got.Errors[silence] < 2) {
				t.Errorf("%s: got %+v where policies let blue in alone", client, got)
			}
		}
	}
	var seen testimony
	if err := json.Unmarshal(eye.end(t), &seen); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"tcp 8080", "udp 8080"} {
		seen.wantOnly(t, kind, c.podIP("blue/client"))
	}
}

// heldOn answers a node's rules for packets that wait.
func (c *cluster) heldOn(node string) string {
	c.t.Helper()
	lines := strings.Split(c.exec(onNode(node), "iptables", "-t", "raw", "-S"), "\n")
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool { return !strings.Contains(line, "DAMASK-IDLE") }), "\n")
}

// waiting is how many packets a node's kernel keeps for its agent.
func (c *cluster) waiting(node string) int {
	c.t.Helper()
	sum := 0
	for line := range strings.Lines(c.exec(onNode(node), "cat", "/proc/net/netfilter/nfnetlink_queue")) {
		var queue, port, packets int
		if _, err := fmt.Sscan(line, &queue, &port, &packets); err == nil {
			sum += packets
		}
	}
	return sum
}
