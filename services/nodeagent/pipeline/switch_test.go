package pipeline_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// startNode gives the case a bridge with its ports and flows.
func startNode(t *testing.T, c nodeCase) *ovstest.Switch {
	t.Helper()
	sw := startPorts(t, c)
	sw.Ofctl(t, "add-flows", "br0", filepath.Join("testdata", c.name, "flows.txt"))
	return sw
}

// startPorts gives the case a bridge with its ports.
func startPorts(t *testing.T, c nodeCase) *ovstest.Switch {
	t.Helper()
	sw := ovstest.Start(t, ovstest.Options{})
	sw.AddBridge(t, "br0")
	sw.Vsctl(t, "add-port", "br0", "vxlan0", "--", "set", "Interface", "vxlan0", "ofport_request=1",
		"type=vxlan", "options:key=flow", "options:remote_ip=flow",
		"--", "add-port", "br0", "tun0", "--", "set", "Interface", "tun0", "type=internal", "ofport_request=2")
	for _, pod := range c.pods {
		name := fmt.Sprintf("veth%08x", pod.Port)
		sw.Vsctl(t, "add-port", "br0", name, "--", "set", "Interface", name, "type=dummy", fmt.Sprintf("ofport_request=%d", pod.Port))
	}
	sw.Ofctl(t, "set-frags", "br0", "nx-match") // As the agent has it: first fragments have ports.
	return sw
}

func TestSwitchTakesAllFlowsAsTheyAre(t *testing.T) {
	for _, c := range nodeCases() {
		t.Run(c.name, func(t *testing.T) {
			sw := startNode(t, c)
			// Silent, and successful, only when the switch has exactly these flows.
			if got := sw.Ofctl(t, "diff-flows", "br0", filepath.Join("testdata", c.name, "flows.txt")); got != "" {
				t.Errorf("the switch has other flows than it was given:\n%s", got)
			}
		})
	}
}

// fromPod begins the question of a packet from shop/web.
const fromPod = "in_port=3,dl_src=0a:58:0a:82:00:05,"

// A walk is a packet and where it ends: an output, a tunnel, or drop.
type walk struct {
	name, packet string
	subnet       string // What happens in subnet mode,
	multitenant  string // and with tenants; "" means the same.
}

// walks are asked on the node of the golden cases: shop/web 10.130.0.5 at port 3 and
// shop/db .6 at 4 share a VNID, bank/web .7 at 5 has another, default/router .8 at 6
// is VNID 0.
func walks() []walk {
	const out, drop, node1 = "2", "drop", "tunnel to 192.168.108.111"
	return []walk{
		{"pod to pod of its tenant", fromPod + "icmp,nw_src=10.130.0.5,nw_dst=10.130.0.6", "4", ""},
		{"pod to pod of another tenant", fromPod + "tcp,nw_src=10.130.0.5,nw_dst=10.130.0.7", "5", drop},
		{"pod to pod of VNID 0", fromPod + "udp,nw_src=10.130.0.5,nw_dst=10.130.0.8", "6", ""},
		{"pod of VNID 0 to any pod", "in_port=6,tcp,nw_src=10.130.0.8,nw_dst=10.130.0.7", "5", ""},
		{"pod to an address that no pod has", fromPod + "tcp,nw_src=10.130.0.5,nw_dst=10.130.0.99", drop, ""},
		{"pod to a pod of another node", fromPod + "tcp,nw_src=10.130.0.5,nw_dst=10.131.0.4", node1, ""},
		{"pod to a subnet that no node has", fromPod + "tcp,nw_src=10.130.0.5,nw_dst=10.131.4.4", drop, ""},
		{"pod to its gateway", fromPod + "icmp,nw_src=10.130.0.5,nw_dst=10.130.0.1", out, ""},
		{"pod to its node", fromPod + "tcp,nw_src=10.130.0.5,nw_dst=192.168.108.112", out, ""},
		{"pod to another node's gateway", fromPod + "icmp,nw_src=10.130.0.5,nw_dst=10.131.0.1", node1, ""},
		{"pod to the world outside", fromPod + "tcp,nw_src=10.130.0.5,nw_dst=8.8.8.8", out, ""},
		{"pod to the node's resolver", fromPod + "udp,nw_src=10.130.0.5,nw_dst=192.168.108.112,udp_dst=53", out, ""},
		{"pod to a service of its tenant", fromPod + "tcp,nw_src=10.130.0.5,nw_dst=172.30.1.1,tcp_dst=80", out, ""},
		{"pod to a service of its tenant by SCTP", fromPod + "sctp,nw_src=10.130.0.5,nw_dst=172.30.1.1,sctp_dst=80", out, ""},
		{"pod to a service of its tenant by another protocol", fromPod + "udp,nw_src=10.130.0.5,nw_dst=172.30.1.1,udp_dst=80", out, drop},
		{"pod to a service of its tenant, later fragment", fromPod + "udp,nw_src=10.130.0.5,nw_dst=172.30.1.1,nw_frag=later", out, ""},
		{"pod to a service of VNID 0", fromPod + "tcp,nw_src=10.130.0.5,nw_dst=172.30.0.1,tcp_dst=443", out, ""},
		{"pod to a port that a service does not have", fromPod + "tcp,nw_src=10.130.0.5,nw_dst=172.30.0.1,tcp_dst=80", out, drop},
		{"pod to a service of another tenant", fromPod + "udp,nw_src=10.130.0.5,nw_dst=172.30.1.2,udp_dst=53", out, drop},
		{"pod to a service of another tenant, later fragment", fromPod + "udp,nw_src=10.130.0.5,nw_dst=172.30.1.2,nw_frag=later", out, drop},
		{"pod to a service that does not exist", fromPod + "tcp,nw_src=10.130.0.5,nw_dst=172.30.9.9,tcp_dst=80", out, drop},
		{"pod of VNID 0 to a service", "in_port=6,tcp,nw_src=10.130.0.8,nw_dst=172.30.0.1", out, ""},
		{"pod to its node's node port of another tenant", fromPod + "udp,nw_src=10.130.0.5,nw_dst=192.168.108.112,udp_dst=30053", out, ""},
		{"pod to another node", fromPod + "tcp,nw_src=10.130.0.5,nw_dst=192.168.108.111,tcp_dst=22", out, ""},
		{"pod to another node's node port of its tenant", fromPod + "tcp,nw_src=10.130.0.5,nw_dst=192.168.108.111,tcp_dst=30080", out, ""},
		{"pod to another node's node port of its tenant by SCTP", fromPod + "sctp,nw_src=10.130.0.5,nw_dst=192.168.108.111,sctp_dst=30080", out, ""},
		{"pod to another node's node port of VNID 0", fromPod + "tcp,nw_src=10.130.0.5,nw_dst=192.168.108.111,tcp_dst=30443", out, ""},
		{"pod to another node's node port of another tenant", fromPod + "udp,nw_src=10.130.0.5,nw_dst=192.168.108.113,udp_dst=30053", out, drop},
		{"pod to another node's node port of another tenant by another protocol", fromPod + "tcp,nw_src=10.130.0.5,nw_dst=192.168.108.113,tcp_dst=30053", out, ""},
		{"pod to another node's node port of nobody knows whom", fromPod + "tcp,nw_src=10.130.0.5,nw_dst=192.168.108.113,tcp_dst=30999", out, drop},
		{"pod to a node port of a machine that is no node", fromPod + "udp,nw_src=10.130.0.5,nw_dst=192.168.108.200,udp_dst=30053", out, ""},
		{"pod of VNID 0 to another node's node port", "in_port=6,udp,nw_src=10.130.0.8,nw_dst=192.168.108.111,udp_dst=30053", out, ""},
		{"pod of VNID 0 to another node's node port of nobody knows whom", "in_port=6,tcp,nw_src=10.130.0.8,nw_dst=192.168.108.111,tcp_dst=30999", out, ""},
		{"pod to another node, later fragment", fromPod + "udp,nw_src=10.130.0.5,nw_dst=192.168.108.111,nw_frag=later", out, ""},
		{"pod to another node, first fragment", fromPod + "tcp,nw_src=10.130.0.5,nw_dst=192.168.108.111,tcp_dst=22,nw_frag=first", out, ""},
		{"pod to another node, first fragment without a port", fromPod + "tcp,nw_src=10.130.0.5,nw_dst=192.168.108.111,tcp_dst=0,nw_frag=first", out, drop},
		{"pod with another pod's address", fromPod + "tcp,nw_src=10.130.0.6,nw_dst=10.130.0.7", drop, ""},
		{"pod with an address from outside", fromPod + "tcp,nw_src=8.8.8.8,nw_dst=10.130.0.6", drop, ""},
		{"pod with the gateway's address", fromPod + "tcp,nw_src=10.130.0.1,nw_dst=10.130.0.7", drop, ""},
		{"pod without an address", fromPod + "udp,nw_src=0.0.0.0,nw_dst=255.255.255.255,udp_src=68,udp_dst=67", drop, ""},
		{"pod that speaks VXLAN to a node", fromPod + "udp,nw_src=10.130.0.5,nw_dst=192.168.108.111,udp_dst=4789", drop, ""},
		{"pod that speaks VXLAN to a pod", fromPod + "udp,nw_src=10.130.0.5,nw_dst=10.130.0.6,udp_dst=4789", drop, ""},
		{"pod that speaks IPv6", fromPod + "icmp6,ipv6_src=fe80::1,ipv6_dst=ff02::1", drop, ""},
		{"pod that speaks another protocol", fromPod + "dl_type=0x88cc", drop, ""},

		{"pod asks for a neighbour", fromPod + "arp,arp_op=1,arp_spa=10.130.0.5,arp_tpa=10.130.0.6,arp_sha=0a:58:0a:82:00:05", "4", ""},
		{"pod asks for its gateway", fromPod + "arp,arp_op=1,arp_spa=10.130.0.5,arp_tpa=10.130.0.1,arp_sha=0a:58:0a:82:00:05", out, ""},
		{"pod asks for a pod of another node", fromPod + "arp,arp_op=1,arp_spa=10.130.0.5,arp_tpa=10.131.0.4,arp_sha=0a:58:0a:82:00:05", node1, ""},
		{"pod asks for an address outside", fromPod + "arp,arp_op=1,arp_spa=10.130.0.5,arp_tpa=8.8.8.8,arp_sha=0a:58:0a:82:00:05", drop, ""},
		{"pod claims another's address by ARP", fromPod + "arp,arp_op=2,arp_spa=10.130.0.6,arp_tpa=10.130.0.7,arp_sha=0a:58:0a:82:00:05", drop, ""},
		{"pod claims the gateway's address by ARP", fromPod + "arp,arp_op=2,arp_spa=10.130.0.1,arp_tpa=10.130.0.7,arp_sha=0a:58:0a:82:00:05", drop, ""},
		{"pod claims another's MAC by ARP", fromPod + "arp,arp_op=2,arp_spa=10.130.0.5,arp_tpa=10.130.0.7,arp_sha=0a:58:0a:82:00:06", drop, ""},

		{"node to a pod", "in_port=2,tcp,nw_src=10.130.0.1,nw_dst=10.130.0.7", "5", ""},
		{"node by its own address to a pod", "in_port=2,tcp,nw_src=192.168.108.112,nw_dst=10.130.0.7", "5", ""},
		{"node to a pod of another node", "in_port=2,tcp,nw_src=10.130.0.1,nw_dst=10.131.0.4", node1, ""},
		{"node asks for a pod", "in_port=2,arp,arp_op=1,arp_spa=10.130.0.1,arp_tpa=10.130.0.7", "5", ""},
		{"node asks for a pod of another node", "in_port=2,arp,arp_op=1,arp_spa=10.130.0.1,arp_tpa=10.131.0.4", node1, ""},
		{"node asks with another address", "in_port=2,arp,arp_op=1,arp_spa=192.168.108.112,arp_tpa=10.130.0.7", drop, ""},
		{"multicast of the node", "in_port=2,udp,nw_src=10.130.0.1,nw_dst=224.0.0.251", drop, ""},
		{"multicast of the node's own address", "in_port=2,udp,nw_src=192.168.108.112,nw_dst=224.0.0.251", drop, ""},
		{"outside to a pod by route", "in_port=2,tcp,nw_src=8.8.8.8,nw_dst=10.130.0.7", "5", ""},
		{"outside to a pod of another node by route", "in_port=2,tcp,nw_src=8.8.8.8,nw_dst=10.131.0.4", node1, ""},
		{"pod's packet back from the kernel to a pod of its tenant", "in_port=2,tcp,nw_src=10.130.0.5,nw_dst=10.130.0.6", "4", ""},
		{"pod's packet back from the kernel to a pod of another tenant", "in_port=2,tcp,nw_src=10.130.0.5,nw_dst=10.130.0.7", "5", drop},
		{"pod's packet back from the kernel to a pod of another node", "in_port=2,tcp,nw_src=10.130.0.5,nw_dst=10.131.0.4", node1, ""},
		{"packet back from the kernel, of a pod that is gone", "in_port=2,tcp,nw_src=10.130.0.99,nw_dst=10.130.0.7", drop, ""},
		{"answer of a service from the kernel", "in_port=2,tcp,nw_src=172.30.1.1,nw_dst=10.130.0.5", "3", ""},
		{"node speaks IPv6", "in_port=2,icmp6,ipv6_src=fe80::1,ipv6_dst=ff02::1", drop, ""},

		{"tunnel to a pod of the sender's tenant", fromTunnel + "tun_id=0x82f8b2,tcp,nw_src=10.131.0.4,nw_dst=10.130.0.5", "3", ""},
		{"tunnel to a pod of another tenant", fromTunnel + "tun_id=0x426a5,tcp,nw_src=10.131.0.4,nw_dst=10.130.0.5", "3", drop},
		{"tunnel with VNID 0", fromTunnel + "tun_id=0,tcp,nw_src=10.131.0.1,nw_dst=10.130.0.5", "3", ""},
		{"tunnel to a pod of VNID 0", fromTunnel + "tun_id=0x426a5,tcp,nw_src=10.131.0.4,nw_dst=10.130.0.8", "6", ""},
		{"tunnel to the node", fromTunnel + "tun_id=0x426a5,tcp,nw_src=10.131.0.4,nw_dst=10.130.0.1,tcp_dst=22", out, ""},
		{"tunnel to a node port of the sender's tenant", fromTunnel + "tun_id=0x82f8b2,tcp,nw_src=10.131.0.4,nw_dst=10.130.0.1,tcp_dst=30080", out, ""},
		{"tunnel to a node port of another tenant", fromTunnel + "tun_id=0x426a5,tcp,nw_src=10.131.0.4,nw_dst=10.130.0.1,tcp_dst=30080", out, drop},
		{"tunnel to another node's node port of the sender's tenant", fromTunnel + "tun_id=0x82f8b2,tcp,nw_src=10.131.0.4,nw_dst=192.168.108.111,tcp_dst=30081", drop, ""},
		{"tunnel to a node port of VNID 0", fromTunnel + "tun_id=0x426a5,tcp,nw_src=10.131.0.4,nw_dst=10.130.0.1,tcp_dst=30443", out, ""},
		{"tunnel with VNID 0 to a node port", fromTunnel + "tun_id=0,tcp,nw_src=10.131.0.1,nw_dst=10.130.0.1,tcp_dst=30080", out, ""},
		{"tunnel to another node's node port of another tenant", fromTunnel + "tun_id=0x426a5,tcp,nw_src=10.131.0.4,nw_dst=192.168.108.111,tcp_dst=30080", drop, ""},
		{"tunnel from a stranger", "in_port=1,tun_src=192.168.108.200,tun_id=0,tcp,nw_src=10.131.0.4,nw_dst=10.130.0.5", drop, ""},
		{"tunnel from this node's own address", "in_port=1,tun_src=192.168.108.112,tun_id=0,tcp,nw_src=10.131.0.4,nw_dst=10.130.0.5", drop, ""},
		{"tunnel from outside to outside", fromTunnel + "tcp,nw_src=8.8.8.8,nw_dst=9.9.9.9", drop, ""},
		{"tunnel with ARP for a pod", fromTunnel + "tun_id=0x426a5,arp,arp_op=1,arp_spa=10.131.0.4,arp_tpa=10.130.0.5", "3", ""},
		{"tunnel with ARP from outside", fromTunnel + "arp,arp_op=1,arp_spa=8.8.8.8,arp_tpa=10.130.0.5", drop, ""},
		{"tunnel with IPv6", fromTunnel + "icmp6,ipv6_src=fe80::1,ipv6_dst=ff02::1", drop, ""},
	}
}

const fromTunnel = "in_port=1,tun_src=192.168.108.111,"

func TestPacketsEndWhereTheyShould(t *testing.T) {
	for _, c := range nodeCases()[:4] {
		sw := startNode(t, c)
		for _, w := range walks() {
			t.Run(c.name+"/"+w.name, func(t *testing.T) {
				want := w.subnet
				if c.node.Mode == pipeline.Multitenant && w.multitenant != "" {
					want = w.multitenant
				}
				answer := sw.Appctl(t, "ofproto/trace", "br0", w.packet)
				if got := end(answer); got != want {
					t.Errorf("got %s, want %s:\n%s", got, want, answer)
				}
			})
		}
	}
}

// TestAnswersComeFromTheServicesAddress traces what a backend answers, when the lookup
// of table 30 says that it is an answer.
func TestAnswersComeFromTheServicesAddress(t *testing.T) {
	for _, c := range nodeCases()[:4] {
		sw := startNode(t, c)
		// shop/web has asked a service; who answers?
		fromTenant := "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=10.130.0.5"
		fromOther := "in_port=5,tcp,nw_src=10.130.0.7,nw_dst=10.130.0.5"
		fromGlobal := "in_port=6,tcp,nw_src=10.130.0.8,nw_dst=10.130.0.5"
		fromNode := fromTunnel + "tun_id=0x82f8b2,tcp,nw_src=10.131.0.4,nw_dst=10.130.0.5"
		fromNodeOther := fromTunnel + "tun_id=0x426a5,tcp,nw_src=10.131.0.4,nw_dst=10.130.0.5"
		client, isolated := "3", c.node.Mode == pipeline.Multitenant
		if c.node.Userspace {
			client = "2" // By way of the kernel.
		}
		for _, w := range []struct {
			name, packet string
			drop         bool
		}{
			{"backend of the tenant", fromTenant, false},
			{"backend of VNID 0", fromGlobal, false},
			{"backend of another tenant", fromOther, isolated},
			{"backend of the tenant on another node", fromNode, false},
			{"backend of another tenant on another node", fromNodeOther, isolated},
		} {
			t.Run(c.name+"/"+w.name, func(t *testing.T) {
				want := client
				if w.drop {
					want = "drop"
				}
				answer := sw.Appctl(t, "ofproto/trace", "--ct-next", "trk,est,rpl,dnat", "br0", w.packet)
				if got := end(answer); got != want {
					t.Errorf("got %s, want %s:\n%s", got, want, answer)
				}
				lookup := "ct(nat),recirc("
				if c.node.Userspace {
					lookup = "ct(zone=25),recirc("
				}
				if !strings.Contains(answer, lookup) || strings.Count(answer, "resume conntrack") != 1 {
					t.Errorf("want one lookup with %s...):\n%s", lookup, answer)
				}
				if toKernel := toTun0.MatchString(answer); toKernel != (want == "2") {
					t.Errorf("has tun0's MAC: %t\n%s", toKernel, answer)
				}
			})
		}
	}
}

// TestAnswersToTheNodeAreNoQuestionsToItsNodePorts traces what a pod of another node and
// tenant answers the node, whose masqueraded connection happens to have the number of a
// node port.
func TestAnswersToTheNodeAreNoQuestionsToItsNodePorts(t *testing.T) {
	for _, c := range nodeCases()[:4] {
		t.Run(c.name, func(t *testing.T) {
			answer := startNode(t, c).Appctl(t, "ofproto/trace", "--ct-next", "trk,est,rpl", "br0",
				fromTunnel+"tun_id=0x426a5,tcp,nw_src=10.131.0.4,nw_dst=10.130.0.1,tcp_dst=30080")
			if got := end(answer); got != "2" {
				t.Errorf("got %s, want 2:\n%s", got, answer)
			}
		})
	}
}

func TestPodCannotSpeakTheConfiguredTunnel(t *testing.T) {
	for _, c := range nodeCases() {
		packet := map[string]string{"geneve": "udp,udp_dst=6081,", "gre": "ip,nw_proto=47,"}[c.name]
		if packet == "" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			answer := startNode(t, c).Appctl(t, "ofproto/trace", "br0", fromPod+packet+"nw_src=10.130.0.5,nw_dst=192.168.108.111")
			if got := end(answer); got != "drop" {
				t.Errorf("got %s, want drop:\n%s", got, answer)
			}
		})
	}
}

// end reads where a traced packet ends: the port that the last output names, the
// node to which the tunnel port sends it, or "drop".
func end(answer string) string {
	result, tunnel := "drop", ""
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		if to, found := strings.CutPrefix(line, "set_field:"); found {
			tunnel = strings.TrimSuffix(to, "->tun_dst")
		}
		if port, found := strings.CutPrefix(line, "output:"); found {
			result = port
		}
		if port, found := strings.CutPrefix(line, "-> output port is "); found {
			result = port
		}
	}
	// What came back from the kernel may have been noted before it was dropped.
	if result == "drop" && !regexp.MustCompile(`(?m)^Datapath actions: (drop|ct_clear|(ct\(commit,zone=25,mark=0x[0-9a-f]+/0xffffffff\),?)?(ct\(commit,zone=100\))?)$`).MatchString(answer) {
		return "unclear"
	}
	if result == "1" {
		return "tunnel to " + tunnel
	}
	return result
}

// toTun0 is in what the datapath is told when it writes tun0's MAC.
var toTun0 = regexp.MustCompile(`(?m)^Datapath actions: .*dst=0a:58:0a:82:00:01`)
