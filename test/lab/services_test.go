package lab

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// servicesTopology is two nodes, two tenants, and a service of each sort. What the
// slices of "by hand" services hold is set by the tests.
const servicesTopology = `
mode: multitenant
clusterNetworks: [{cidr: 10.128.0.0/14, hostSubnetLength: 9}]
serviceNetwork: 172.30.0.0/16
serviceEngine: ENGINE
nodes: [{name: node1}, {name: node2}]
namespaces: [{name: red}, {name: blue}]
pods:
- {namespace: red, name: client, node: node1}
- {namespace: red, name: far, node: node2}
- {namespace: red, name: web1, node: node1, labels: {app: web}}
- {namespace: red, name: web2, node: node2, labels: {app: web, only: node2}}
- {namespace: blue, name: client, node: node1}
- {namespace: default, name: client, node: node2}
services:
- namespace: red
  name: web
  type: LoadBalancer
  clusterIP: 172.30.0.10
  externalIPs: [203.0.113.7]
  loadBalancerIP: 198.51.100.7
  selector: {app: web}
  ports: [{name: tcp, port: 80, targetPort: 8080, nodePort: 30080}, {name: udp, port: 80, targetPort: 8080, protocol: UDP, nodePort: 30080}]
- namespace: red
  name: empty
  type: NodePort
  clusterIP: 172.30.0.11
  ports: [{name: tcp, port: 80, nodePort: 30081}, {name: udp, port: 80, protocol: UDP, nodePort: 30081}]
- namespace: red
  name: inside
  clusterIP: 172.30.0.12
  selector: {only: node2}
  internalTrafficPolicy: Local
  ports: [{name: tcp, port: 80, targetPort: 8080}, {name: udp, port: 80, targetPort: 8080, protocol: UDP}]
- namespace: red
  name: local
  type: LoadBalancer
  clusterIP: 172.30.0.13
  loadBalancerIP: 198.51.100.8
  selector: {only: node2}
  externalTrafficPolicy: Local
  healthCheckNodePort: 30091
  ports: [{name: tcp, port: 80, targetPort: 8080, nodePort: 30083}, {name: udp, port: 80, targetPort: 8080, protocol: UDP, nodePort: 30083}]
- namespace: red
  name: sticky
  clusterIP: 172.30.0.14
  selector: {app: web}
  sessionAffinity: ClientIP
  ports: [{name: tcp, port: 80, targetPort: 8080}, {name: udp, port: 80, targetPort: 8080, protocol: UDP}]
- namespace: red
  name: guarded
  type: LoadBalancer
  clusterIP: 172.30.0.15
  loadBalancerIP: 198.51.100.9
  loadBalancerSourceRanges: [192.0.2.0/24]
  selector: {app: web}
  ports: [{name: tcp, port: 80, targetPort: 8080}, {name: udp, port: 80, targetPort: 8080, protocol: UDP}]
- namespace: red
  name: hand
  type: NodePort
  clusterIP: 172.30.0.20
  ports: [{name: tcp, port: 80, nodePort: 30090}, {name: udp, port: 80, protocol: UDP, nodePort: 30090}]
`

// servicesCluster is a lab with that topology, in which every backend serves.
func servicesCluster(t *testing.T, engine string) *cluster {
	t.Helper()
	c := up(t, strings.Replace(servicesTopology, "ENGINE", engine, 1))
	c.serveAll("8080", "red/web1", "red/web2")
	c.settled(t, "red/web", 2)
	c.settled(t, "red/inside", 1)
	c.settled(t, "red/local", 1)
	c.settled(t, "red/sticky", 2)
	c.settled(t, "red/guarded", 2)
	return c
}

// eachEngine runs a test with a lab of each engine.
func eachEngine(t *testing.T, test func(t *testing.T, c *cluster)) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) { test(t, servicesCluster(t, engine)) })
	}
}

// both runs a check for both protocols that a service has.
func both(check func(protocol string)) {
	check("tcp")
	check("udp")
}

func TestServicesAreReachedFromEverySide(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cluster) {
		for _, mode := range []string{"multitenant", "subnet", "multitenant"} {
			c.ctl("mode", "set", mode)
			t.Run("pods in mode "+mode, func(t *testing.T) { c.wantPodsReachServices(t, mode) })
		}
		t.Run("a pod reaches itself through its service", c.wantHairpin)
		t.Run("nodes", c.wantNodesReachServices)
		t.Run("outside", c.wantOutsideReachesServices)
		t.Run("no endpoints: refused at once", c.wantRefused)
		t.Run("policy Local", c.wantLocal)
		t.Run("source ranges", c.wantGuarded)
		t.Run("affinity", c.wantAffinity)
		t.Run("backends that are no pods", c.wantOtherBackends)
	})
}

// wantPodsReachServices wants pods to reach a service where its backends are, who see
// the pod and not the node.
func (c *cluster) wantPodsReachServices(t *testing.T, mode string) {
	for _, pod := range []string{"red/client", "red/far", "default/client"} {
		both(func(protocol string) {
			c.wantAnswers(t, inPod(pod), protocol, "172.30.0.10:80", "web1 "+c.podIP(pod), "web2 "+c.podIP(pod))
		})
	}
	// By whatever address it asks, its own node knows whose the pod is.
	for _, addr := range []string{"172.30.0.10:80", c.nodeIP("node1") + ":30080", c.gateway("node1") + ":30080", "203.0.113.7:80", "198.51.100.7:80"} {
		c.wantAnswers(t, inPod("red/client"), "tcp", addr, "web1 "+c.podIP("red/client"), "web2 "+c.podIP("red/client"))
		if mode == "multitenant" {
			c.wantUnanswered(t, inPod("blue/client"), silence, addr)
			continue
		}
		both(func(protocol string) {
			c.wantAnswers(t, inPod("blue/client"), protocol, addr, "web1 "+c.podIP("blue/client"), "web2 "+c.podIP("blue/client"))
		})
	}
	// Another node does not know: for the backends they are that node, and their own
	// switch, or that of the node, has asked whose the service is.
	for asked, client := range map[string]string{"node2": "red/client", "node1": "default/client"} {
		for _, addr := range []string{c.nodeIP(asked) + ":30080", c.gateway(asked) + ":30080"} {
			both(func(protocol string) {
				c.wantAnswers(t, inPod(client), protocol, addr, "web1 "+c.gateway(asked), "web2 "+c.gateway(asked))
			})
		}
	}
	for _, addr := range []string{c.nodeIP("node2") + ":30080", c.gateway("node2") + ":30080"} {
		if mode == "multitenant" {
			c.wantUnanswered(t, inPod("blue/client"), silence, addr)
			continue
		}
		both(func(protocol string) {
			c.wantAnswers(t, inPod("blue/client"), protocol, addr, "web1 "+c.gateway("node2"), "web2 "+c.gateway("node2"))
		})
	}
}

// wantHairpin wants a backend to reach itself and the other. From itself it is seen as
// the gateway: a packet from its own address would not leave it again.
func (c *cluster) wantHairpin(t *testing.T) {
	both(func(protocol string) {
		c.wantAnswers(t, inPod("red/web1"), protocol, "172.30.0.10:80", "web1 "+c.gateway("node1"), "web2 "+c.podIP("red/web1"))
		c.wantAnswers(t, inPod("red/web2"), protocol, "172.30.0.10:80", "web1 "+c.podIP("red/web2"), "web2 "+c.gateway("node2"))
	})
}

func (c *cluster) wantNodesReachServices(t *testing.T) {
	for _, node := range []string{"node1", "node2"} {
		both(func(protocol string) {
			for _, addr := range []string{"172.30.0.10:80", c.nodeIP("node1") + ":30080", c.nodeIP("node2") + ":30080", "203.0.113.7:80", "198.51.100.7:80"} {
				got := c.load(t, onNode(node), protocol, addr, enough)
				if by := got.by(); by["web1"] == 0 || by["web2"] == 0 || len(got.Errors) > 0 {
					t.Errorf("%s by %s to %s: got %v, errors %v, want both backends", node, protocol, addr, got.Answers, got.Errors)
				}
			}
			c.wantAnswers(t, onNode(node), protocol, "172.30.0.10:80", "web1 "+c.gateway(node), "web2 "+c.gateway(node))
		})
	}
}

// wantOutsideReachesServices wants a host outside to reach a service by a port of any
// node, by an external and by a load-balancer address. The backends see the node that
// it came by.
func (c *cluster) wantOutsideReachesServices(t *testing.T) {
	outside := onOutside("outside")
	c.exec(outside, "ip", "route", "replace", "203.0.113.7", "via", c.nodeIP("node2"))
	both(func(protocol string) {
		for node, addrs := range map[string][]string{
			"node1": {c.nodeIP("node1") + ":30080", "198.51.100.7:80"},
			"node2": {c.nodeIP("node2") + ":30080", "203.0.113.7:80"},
		} {
			for _, addr := range addrs {
				c.wantAnswers(t, outside, protocol, addr, "web1 "+c.gateway(node), "web2 "+c.gateway(node))
			}
		}
		// A cluster IP is for the inside, but whoever has a route to it is answered.
		c.exec(outside, "ip", "route", "replace", "172.30.0.0/16", "via", c.nodeIP("node1"))
		c.wantAnswers(t, outside, protocol, "172.30.0.10:80", "web1 "+c.gateway("node1"), "web2 "+c.gateway("node1"))
	})
}

func (c *cluster) wantRefused(t *testing.T) {
	for _, from := range []place{inPod("red/client"), inPod("red/far"), onNode("node1"), onOutside("outside")} {
		c.wantUnanswered(t, from, refused, "172.30.0.11:80", c.nodeIP("node1")+":30081", c.nodeIP("node2")+":30081")
	}
}

// wantLocal wants policy Local to use backends of the same node only. From outside the
// backend then sees the client's own address, and load balancers are told which
// nodes have one.
func (c *cluster) wantLocal(t *testing.T) {
	both(func(protocol string) {
		c.wantAnswers(t, inPod("red/far"), protocol, "172.30.0.12:80", "web2 "+c.podIP("red/far"))

		outside := c.outsideIP("outside")
		c.wantAnswers(t, onOutside("outside"), protocol, c.nodeIP("node2")+":30083", "web2 "+outside)
		// The policy is for clients outside: those inside reach it from everywhere.
		c.wantAnswers(t, onNode("node1"), protocol, c.nodeIP("node1")+":30083", "web2 "+c.nodeIP("node1"))
		c.wantAnswers(t, inPod("red/client"), protocol, "172.30.0.13:80", "web2 "+c.podIP("red/client"))
		c.wantAnswers(t, inPod("red/client"), protocol, "198.51.100.8:80", "web2 "+c.podIP("red/client"))
	})
	c.wantUnanswered(t, inPod("red/client"), silence, "172.30.0.12:80")
	c.wantUnanswered(t, onOutside("outside"), silence, c.nodeIP("node1")+":30083")
	for node, want := range map[string]string{"node1": "503", "node2": "200"} {
		r := c.check(onOutside("outside"), fmt.Sprintf("http %s 0", net.JoinHostPort(c.nodeIP(node), "30091")))[0]
		if !r.OK || r.Server != want {
			t.Errorf("the health port of %s answered %q (%s), want %s", node, r.Server, r.Error, want)
		}
	}
}

// wantGuarded wants a load-balancer address to be closed for who is not named.
func (c *cluster) wantGuarded(t *testing.T) {
	outside := onOutside("outside")
	c.wantUnanswered(t, outside, silence, "198.51.100.9:80")
	both(func(protocol string) {
		c.wantAnswers(t, inPod("red/client"), protocol, "172.30.0.15:80", "web1 "+c.podIP("red/client"), "web2 "+c.podIP("red/client"))
	})
}

// wantAffinity wants a client to stay with its backend, and different clients not
// all to have the same.
func (c *cluster) wantAffinity(t *testing.T) {
	both(func(protocol string) {
		for _, from := range []place{inPod("red/client"), inPod("red/far"), inPod("default/client"), onNode("node1"), onNode("node2")} {
			got := c.loadAsKnown(t, from, protocol, "172.30.0.14:80", enough)
			if len(got.by()) != 1 || len(got.Errors) > 0 {
				t.Errorf("%s by %s: got %v, errors %v, want one backend", from, protocol, got.Answers, got.Errors)
			}
		}
	})
}

// wantOtherBackends wants backends on a node's own network and outside of the cluster
// to be reached like pods. Both lie behind the node: it masquerades what pods send.
func (c *cluster) wantOtherBackends(t *testing.T) {
	outside := onOutside("outside")
	c.start(onNode("node2"), "serve", "9090", "host2")
	c.start(outside, "serve", "9090", "outside")
	c.apply(t, slice("red/hand", 9090, atNode(c.nodeIP("node2"), "node2"), c.outsideIP("outside")))
	both(func(protocol string) {
		c.wantAnswers(t, inPod("red/client"), protocol, "172.30.0.20:80", "host2 "+c.nodeIP("node1"), "outside "+c.nodeIP("node1"))
		// On its own node it is reached without leaving the node.
		c.wantAnswers(t, inPod("red/far"), protocol, "172.30.0.20:80", "host2 "+c.podIP("red/far"), "outside "+c.nodeIP("node2"))
		c.wantAnswers(t, onNode("node1"), protocol, "172.30.0.20:80", "host2 "+c.nodeIP("node1"), "outside "+c.nodeIP("node1"))
		c.wantAnswers(t, outside, protocol, c.nodeIP("node1")+":30090", "host2 "+c.nodeIP("node1"), "outside "+c.nodeIP("node1"))
	})
	c.apply(t, slice("red/hand", 9090))
	c.wantUnanswered(t, inPod("red/client"), refused, "172.30.0.20:80")
}
