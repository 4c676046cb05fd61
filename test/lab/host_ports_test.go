package lab

import (
	"strings"
	"testing"
)

// hostPortsTopology is two nodes with two tenants and a global namespace. On node1 a
// pod of each leads ports of the node to itself, by TCP and UDP.
const hostPortsTopology = `
mode: multitenant
clusterNetworks: [{cidr: 10.128.0.0/14, hostSubnetLength: 9}]
serviceNetwork: 172.30.0.0/16
serviceEngine: ENGINE
nodes: [{name: node1}, {name: node2}]
namespaces: [{name: red}, {name: blue}]
pods:
- namespace: red
  name: web
  node: node1
  labels: {app: web}
  ports: [{containerPort: 8080, hostPort: 9080}, {containerPort: 8080, hostPort: 9080, protocol: UDP}, {containerPort: 8080, hostPort: 9081, hostIP: 127.0.0.1}]
- namespace: default
  name: router
  node: node1
  ports: [{containerPort: 8080, hostPort: 9180}, {containerPort: 8080, hostPort: 9180, protocol: UDP}]
- {namespace: red, name: near, node: node1}
- {namespace: red, name: far, node: node2}
- {namespace: blue, name: near, node: node1}
- {namespace: blue, name: far, node: node2}
- {namespace: default, name: far, node: node2}
services:
- {namespace: red, name: web, type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
`

func TestHostPortsLeadToTheirPods(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			c := up(t, strings.Replace(hostPortsTopology, "ENGINE", engine, 1))
			c.serveAll("8080", "red/web", "default/router")
			c.settled(t, "red/web", 1)
			for _, mode := range []string{"multitenant", "subnet", "multitenant"} {
				c.ctl("mode", "set", mode)
				c.ctl("audit", "node1") // rules of tenants' host ports follow the mode in their own time
				t.Run(mode, func(t *testing.T) { c.wantHostPorts(t, mode == "multitenant") })
			}
			t.Run("beside services", func(t *testing.T) {
				c.wantAnswers(t, onOutside("outside"), "tcp", c.nodeIP("node1")+":30080", "web "+c.gateway("node1"))
			})
			t.Run("a taken port", c.wantTakenPort)
			t.Run("agents come and go", c.wantHostPortsWithoutAgent)
			t.Run("a pod goes", c.wantHostPortGone)
		})
	}
}

// wantHostPorts asks from every side.
func (c *cluster) wantHostPorts(t *testing.T, tenants bool) {
	node1 := c.nodeIP("node1")
	both(func(protocol string) {
		outside := c.outsideIP("outside")
		c.wantAnswers(t, onOutside("outside"), protocol, node1+":9080", "web "+outside)
		c.wantAnswers(t, onOutside("outside"), protocol, node1+":9180", "router "+outside)
		c.wantAnswers(t, onNode("node1"), protocol, node1+":9080", "web "+node1)
		c.wantAnswers(t, onNode("node1"), protocol, "127.0.0.1:9080", "web "+c.gateway("node1"))
		c.wantAnswers(t, inPod("red/near"), protocol, node1+":9080", "web "+c.podIP("red/near"))
		c.wantAnswers(t, inPod("red/near"), protocol, c.gateway("node1")+":9080", "web "+c.podIP("red/near"))
		c.wantAnswers(t, inPod("red/web"), protocol, node1+":9080", "web "+c.gateway("node1"))
		for _, pod := range []string{"red/near", "blue/near"} {
			c.wantAnswers(t, inPod(pod), protocol, node1+":9180", "router "+c.podIP(pod))
		}
		// The other node masquerades its pods: its own address is what the router sees.
		for _, pod := range []string{"red/far", "blue/far", "default/far"} {
			c.wantAnswers(t, inPod(pod), protocol, node1+":9180", "router "+c.nodeIP("node2"))
		}
		if !tenants {
			c.wantAnswers(t, inPod("blue/near"), protocol, node1+":9080", "web "+c.podIP("blue/near"))
			c.wantAnswers(t, inPod("blue/far"), protocol, node1+":9080", "web "+c.nodeIP("node2"))
		}
	})
	c.wantAnswers(t, onNode("node1"), "tcp", "127.0.0.1:9081", "web "+c.gateway("node1"))
	c.wantUnanswered(t, onOutside("outside"), refused, node1+":9081")
	c.wantUnanswered(t, onOutside("outside"), refused, c.nodeIP("node2")+":9080")
	if tenants {
		c.wantUnanswered(t, inPod("blue/near"), silence, node1+":9080", c.gateway("node1")+":9080")
		// Whose a pod behind another node is nobody can tell.
		for _, pod := range []string{"blue/far", "red/far"} {
			c.wantUnanswered(t, inPod(pod), refused, node1+":9080", c.gateway("node1")+":9080")
		}
	}
}

// wantTakenPort wants a second pod with a host port to be refused, whole.
func (c *cluster) wantTakenPort(t *testing.T) {
	out, err := c.try("lab", "pod", "add", "--name", c.name, "blue/second", "--node", "node1", "--host-port", "9080:80")
	if err == nil || !strings.Contains(out, "host port 9080 of TCP belongs to pod red/web") {
		t.Errorf("got error %v\n%s", err, out)
	}
	c.run("lab", "pod", "add", "--name", c.name, "blue/second", "--node", "node2", "--host-port", "9080:80", "--host-port", "9080:80/UDP")
	c.run("lab", "pod", "delete", "--name", c.name, "blue/second")
}

// wantHostPortsWithoutAgent wants host ports to answer while no agent runs, and its start to
// change no rule.
func (c *cluster) wantHostPortsWithoutAgent(t *testing.T) {
	before := c.exec(onNode("node1"), "iptables", "-t", "nat", "-S")
	c.run("lab", "kill", "--name", c.name, "node1", "nodeagent")
	c.wantAnswers(t, onOutside("outside"), "tcp", c.nodeIP("node1")+":9080", "web "+c.outsideIP("outside"))
	c.run("lab", "start", "--name", c.name, "node1", "nodeagent")
	if after := c.exec(onNode("node1"), "iptables", "-t", "nat", "-S"); after != before {
		t.Errorf("rules were\n%s\nare\n%s", before, after)
	}
	c.exec(onNode("node1"), "iptables", "-t", "nat", "-F", "KUBE-HOSTPORTS")
	c.wantUnanswered(t, onOutside("outside"), refused, c.nodeIP("node1")+":9080")
	c.ctl("audit", "node1")
	c.wantAnswers(t, onOutside("outside"), "tcp", c.nodeIP("node1")+":9080", "web "+c.outsideIP("outside"))
}

// wantHostPortGone wants nothing to be left of a pod.
func (c *cluster) wantHostPortGone(t *testing.T) {
	c.run("lab", "pod", "delete", "--name", c.name, "red/web")
	c.wantUnanswered(t, onOutside("outside"), refused, c.nodeIP("node1")+":9080")
	if rules := c.exec(onNode("node1"), "iptables", "-t", "nat", "-S"); strings.Contains(rules, "red/web hostport") {
		t.Errorf("rules are left:\n%s", rules)
	}
}
