package lab

import "testing"

// sliceTrustTopology has a service of red's with a node port, whose slice, written by hand,
// names a pod of blue's.
const sliceTrustTopology = `
mode: multitenant
clusterNetworks: [{cidr: 10.128.0.0/14, hostSubnetLength: 9}]
serviceNetwork: 172.30.0.0/16
nodes: [{name: node1}, {name: node2}]
namespaces: [{name: red}, {name: blue}]
pods:
- {namespace: red, name: near, node: node1}
- {namespace: red, name: far, node: node2}
- {namespace: blue, name: web, node: node1, ip: 10.128.0.9}
services:
- {namespace: red, name: trap, type: NodePort, clusterIP: 172.30.0.10, ports: [{name: tcp, port: 80, nodePort: 30080}, {name: udp, port: 80, protocol: UDP, nodePort: 30080}]}
`

// TestWhoWritesSlicesIsTrusted holds what docs/pipeline.md says of slices that name
// another tenant's pod: the one way that they open, and that they open no other.
func TestWhoWritesSlicesIsTrusted(t *testing.T) {
	c := up(t, sliceTrustTopology)
	c.serveAll("8080", "blue/web")
	c.apply(t, slice("red/trap", 8080, atNode("10.128.0.9", "node1")))
	c.settled(t, "red/trap", 1)
	for _, pod := range []string{"red/near", "red/far"} {
		c.wantUnanswered(t, inPod(pod), silence, "172.30.0.10:80")
	}
	// By its own node a pod has its own address, and table 80 decides.
	c.wantUnanswered(t, inPod("red/near"), silence, c.nodeIP("node1")+":30080", c.gateway("node1")+":30080")
	c.wantUnanswered(t, inPod("red/far"), silence, c.nodeIP("node2")+":30080", c.gateway("node2")+":30080")
	// By another node it has that node's, like a host outside.
	both(func(protocol string) {
		c.wantAnswers(t, inPod("red/far"), protocol, c.nodeIP("node1")+":30080", "web "+c.gateway("node1"))
		c.wantAnswers(t, onOutside("outside"), protocol, c.nodeIP("node1")+":30080", "web "+c.gateway("node1"))
	})
}
