package lab

import (
	"strings"
	"testing"
)

// TestANodeThatIsGoneForGoodLeavesNothingBehind releases a node that is off and
// lets it come back, and then one that runs all the time.
func TestANodeThatIsGoneForGoodLeavesNothingBehind(t *testing.T) {
	c := up(t, `
mode: multitenant
replicas: {ipam: 2, tenancy: 2, servicelb: 2}
nodes: [{name: node1}, {name: node2}]
namespaces: [{name: red}, {name: blue}]
pods:
- {namespace: red, name: client, node: node1}
- {namespace: red, name: far, node: node2}
- {namespace: blue, name: a, node: node2}
`)
	former := c.node("node2").GetSubnet()
	c.run("lab", "kill", "--name", c.name, "node2")

	t.Run("a node that is only off keeps its pods and their namespaces", func(t *testing.T) {
		out, err := c.try("--lab", c.name, "delete", "netnamespace", "blue")
		if err == nil || !strings.Contains(out, "a on node node2") {
			t.Errorf("answered %v: %s", err, out)
		}
		if !strings.Contains(c.ctl("flows", "node1"), former) {
			t.Errorf("node1 has no flow for %s", former)
		}
	})
	t.Run("a released one has neither", func(t *testing.T) {
		c.ctl("delete", "hostsubnet", "node2")
		c.wantRegistered(t, "far", false)
		c.wantRegistered(t, "a", false)
		c.wantRegistered(t, "client", true)
		c.ctl("delete", "netnamespace", "blue")
		c.eventually(t, "node1 has no flow for "+former, func() bool {
			return !strings.Contains(c.ctl("flows", "node1"), former)
		})
	})
	c.run("lab", "pod", "delete", "--name", c.name, "blue/a") // its namespace is gone
	t.Run("it comes back with another subnet, and its pods with it", func(t *testing.T) {
		c.run("lab", "start", "--name", c.name, "node2")
		now := c.wantOtherSubnet(t, "node2", former)
		c.wantIn(t, "red/far", now)
		c.wantRegistered(t, "far", true)
		c.wantReach(t, "red/client", "red/far")
		c.wantReach(t, "red/far", "red/client")
		if out := c.exec(onNode("node2"), "ip", "-4", "addr", "show", "tun0"); strings.Contains(out, former[:len(former)-len(".0/23")]+".1/") {
			t.Errorf("tun0 still has the former address:\n%s", out)
		}
		c.wantFlowsFromScratch(t, "node1")
		c.wantFlowsFromScratch(t, "node2")
	})
	t.Run("one that lives registers anew, reports its pods again, and gives the next one a new address", func(t *testing.T) {
		former := c.node("node1").GetSubnet()
		c.ctl("delete", "hostsubnet", "node1")
		now := c.wantOtherSubnet(t, "node1", former)
		c.wantRegistered(t, "client", true)
		c.run("lab", "pod", "delete", "--name", c.name, "red/client")
		c.run("lab", "pod", "add", "--name", c.name, "red/client", "--node", "node1")
		c.refresh()
		c.wantIn(t, "red/client", now)
		c.wantReach(t, "red/far", "red/client")
		c.wantFlowsFromScratch(t, "node1")
		c.wantFlowsFromScratch(t, "node2")
	})
}

// wantOtherSubnet waits until a node has another subnet than before, is ready
// with it, and the lab knows; it answers the subnet.
func (c *cluster) wantOtherSubnet(t *testing.T, node, former string) string {
	t.Helper()
	c.eventually(t, node+" is ready with another subnet than "+former, func() bool {
		c.refresh()
		now := c.node(node).GetSubnet()
		return now != "" && now != former && strings.Contains(readyLine(c.ctl("get", "nodes"), node), now)
	})
	return c.node(node).GetSubnet()
}

// readyLine answers the line of a node that is ready.
func readyLine(table, node string) string {
	for line := range strings.Lines(table) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == node && fields[1] == "yes" {
			return line
		}
	}
	return ""
}

// wantIn checks that a pod's address is of a subnet of 512.
func (c *cluster) wantIn(t *testing.T, pod, subnet string) {
	t.Helper()
	first := strings.TrimSuffix(subnet, "0/23")
	if ip := c.podIP(pod); !strings.HasPrefix(ip, first) {
		t.Errorf("%s has %s, not an address of %s", pod, ip, subnet)
	}
}

func (c *cluster) wantReach(t *testing.T, from, to string) {
	t.Helper()
	wantAll(t, inPod(from), c.check(inPod(from), "icmp "+c.podIP(to)+" 56"))
}
