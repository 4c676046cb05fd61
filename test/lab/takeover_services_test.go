package lab

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/test/ancestor"
)

// halfWithServices is a cluster whose first node is OpenShift SDN's still, with a service
// whose backend is there and one whose backend is not, an egress IP that it hosts and one
// that it does not. Of two nodes neither is called dead, however slow the machine is.
const halfWithServices = `
mode: multitenant
clusterNetworks: [{cidr: 10.128.0.0/14, hostSubnetLength: 9}]
serviceNetwork: 172.30.0.0/16
serviceEngine: ENGINE
nodes:
- {name: node1, subnet: 10.130.0.0/23, withoutAgent: true, egressIPs: [192.168.108.200]}
- {name: node2, subnet: 10.129.0.0/23, egressIPs: [192.168.108.201]}
namespaces:
- {name: red, vnid: 1001, egressIPs: [192.168.108.200]}
- {name: green, vnid: 1002, egressIPs: [192.168.108.201]}
pods:
- {namespace: red, name: c, node: node2, ip: 10.129.0.2}
services:
- {namespace: red, name: near, type: NodePort, clusterIP: 172.30.0.10, ports: [{name: tcp, port: 80, targetPort: 9000, nodePort: 30080}, {name: udp, port: 80, targetPort: 9000, protocol: UDP, nodePort: 30080}]}
- {namespace: red, name: far, type: NodePort, clusterIP: 172.30.0.11, ports: [{name: tcp, port: 80, targetPort: 9000, nodePort: 30081}, {name: udp, port: 80, targetPort: 9000, protocol: UDP, nodePort: 30081}]}
endpointSlices:
- {namespace: red, name: near, serviceName: near, ports: [{name: tcp, port: 9000}, {name: udp, port: 9000, protocol: UDP}], endpoints: [{addresses: [10.130.0.3], nodeName: node1}]}
- {namespace: red, name: far, serviceName: far, ports: [{name: tcp, port: 9000}, {name: udp, port: 9000, protocol: UDP}], endpoints: [{addresses: [10.129.0.2], nodeName: node2}]}
`

// served are the pods of the node with services. They get their addresses in this order.
var served = []tenant{{"red/a", "red", "node1"}, {"red/b", "red", "node1"}, {"green/a", "green", "node1"}}

// servesAsBefore is such a node: as kube-proxy in OpenShift SDN serves these services, and
// with these egress IPs.
func (c *cluster) servesAsBefore(config *ancestor.Config) {
	for name, s := range map[string]struct {
		address  string
		nodePort uint16
		backend  string
	}{"near": {"172.30.0.10:80", 30080, "10.130.0.3"}, "far": {"172.30.0.11:80", 30081, c.podIP("red/c")}} {
		for _, protocol := range []string{"tcp", "udp"} {
			config.Services = append(config.Services, ancestor.Service{
				Name: "red/" + name + ":" + protocol, Protocol: protocol, Address: netip.MustParseAddrPort(s.address), NodePort: s.nodePort,
				Backends: []netip.AddrPort{netip.MustParseAddrPort(s.backend + ":" + replies)},
			})
		}
	}
	config.Egress = []ancestor.Egress{
		{VNID: config.VNIDs["red"], IP: netip.MustParseAddr("192.168.108.200"), Host: netip.MustParseAddr(c.nodeIP("node1"))},
		{VNID: config.VNIDs["green"], IP: netip.MustParseAddr("192.168.108.201"), Host: netip.MustParseAddr(c.nodeIP("node2"))},
	}
}

// TestServicesAndEgressIPsOfTheAncestorGoOnWhileANodeIsTakenOver has connections through
// cluster IPs and node ports of the node, to backends on it and elsewhere, of pods, of a host
// outside and of the node itself, and such that leave by an egress IP of the node and of
// another one. All go on, from the same addresses, and new ones are made.
func TestServicesAndEgressIPsOfTheAncestorGoOnWhileANodeIsTakenOver(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			c := up(t, strings.Replace(halfWithServices, "ENGINE", engine, 1))
			c.takeOverServices(t)
			if has := strings.Contains(c.exec(onNode("node1"), "iptables-save"), "KUBE-SVC-"); has != (engine == "iptables") {
				t.Errorf("with the engine %s there are chains of kube-proxy: %t", engine, has)
			}
		})
	}
}

func (c *cluster) takeOverServices(t *testing.T) {
	t.Helper()
	c.wantHosted(t, "192.168.108.201")
	agent := c.becomeAncestor("node1", former{ancestor.Multitenant, map[string]int{"red": 1001, "green": 1002, "default": 0}, served, c.servesAsBefore})
	for _, at := range []place{inPod("red/b"), inPod("red/c"), onOutside("")} {
		c.start(at, "reply", replies)
	}
	out := outsideIP + ":" + replies
	ways := []trip{
		{inPod("red/a"), "172.30.0.10:80"}, {inPod("red/a"), "172.30.0.11:80"}, // cluster IPs, near and far
		{onNode("node1"), "172.30.0.10:80"}, {inPod("red/b"), "172.30.0.10:80"}, // of the node, and of the backend itself
		{onOutside(""), c.nodeIP("node1") + ":30080"}, {onOutside(""), c.nodeIP("node1") + ":30081"}, // node ports
		{inPod("red/a"), out}, {inPod("green/a"), out}, // by an egress IP of the node, and of another one
	}
	for _, met := range []trip{
		{inPod("red/a"), c.podIP("red/b")}, {inPod("red/a"), c.podIP("red/c")}, {onNode("node1"), c.podIP("red/b")}, {onNode("node1"), c.podIP("red/c")},
		{onOutside(""), c.nodeIP("node1")}, {inPod("red/a"), outsideIP}, {inPod("green/a"), outsideIP},
	} {
		c.eventually(t, met.String()+" is heard of", func() bool {
			seen, err := c.tryCheck(met.from, "icmp "+met.to+" 56")
			return err == nil && seen[0].OK
		})
	}
	testify := c.witness()
	c.takeOver(t, "node1", agent, ways)
	seen := testify(t)
	for _, protocol := range []string{"tcp", "udp"} {
		seen.wantOnly(t, protocol+" "+replies, "192.168.108.200", "192.168.108.201")
	}
	t.Run("taken over", func(t *testing.T) { c.in(t).wantServedByDamask(t) })
	c.wantNothingOfTheAncestor(t, "node1", served)
	before := slices.Concat(c.flowLines("node1"), c.rulesOf("node1"))
	c.run("lab", "kill", "--name", c.name, "node1", "nodeagent", "--signal", "KILL")
	c.run("lab", "start", "--name", c.name, "node1", "nodeagent")
	if after := slices.Concat(c.flowLines("node1"), c.rulesOf("node1")); !slices.Equal(before, after) {
		t.Errorf("a restart changed flows and rules from\n%s\nto\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// wantServedByDamask asks for all that the node has now, and a pod of another node for the
// egress IP that it hosts: before, no node of Damask's knew who does.
func (c *cluster) wantServedByDamask(t *testing.T) {
	c.start(inPod("red/b"), "serve", "9001", "b")
	c.start(onOutside(""), "serve", leavePort, "outside")
	c.apply(t, slice("red/near", 9001, atNode(c.podIP("red/b"), "node1")))
	c.settled(t, "red/near", 1)
	c.wantHosted(t, "192.168.108.200", "192.168.108.201")
	both(func(protocol string) {
		c.wantAnswers(t, inPod("red/a"), protocol, "172.30.0.10:80", "b "+c.podIP("red/a"))
		c.wantAnswers(t, inPod("red/b"), protocol, "172.30.0.10:80", "b "+c.gateway("node1"))
		c.wantAnswers(t, onOutside(""), protocol, c.nodeIP("node1")+":30080", "b "+c.gateway("node1"))
		for pod, ip := range map[string]string{"red/a": "192.168.108.200", "red/c": "192.168.108.200", "green/a": "192.168.108.201"} {
			c.wantAnswers(t, inPod(pod), protocol, outsideIP+":"+leavePort, "outside "+ip)
		}
	})
}

// rulesOf are a node's rules of iptables, without counters, and its tables of nftables.
func (c *cluster) rulesOf(name string) []string {
	c.t.Helper()
	var rules []string
	for line := range strings.Lines(c.exec(onNode(name), "iptables-save") + c.exec(onNode(name), "nft", "list", "tables")) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ":") {
			rules = append(rules, strings.TrimSpace(line))
		}
	}
	return rules
}
