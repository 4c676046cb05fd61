package pipeline_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// TestMulticastReachesItsTenantOnceAndNobodyElse traces multicast on the node of the
// golden cases: shop/web 3 and shop/db 4 exchange it, of bank only bank/web 5 takes
// part and bank/new 7 does not, default/router 6 is of VNID 0. Three other nodes.
func TestMulticastReachesItsTenantOnceAndNobodyElse(t *testing.T) {
	nodes := []string{"tunnel to 192.168.108.111", "tunnel to 192.168.108.113", "tunnel to 192.168.108.114"}
	everywhere := func(pods ...string) []string { return append(pods, nodes...) }
	walks := []struct {
		name, packet string
		want         []string
	}{
		{"to the tenant, not back to the sender", fromPod + "udp,nw_src=10.130.0.5,nw_dst=239.1.2.3", everywhere("4")},
		{"to a reserved group", fromPod + "udp,nw_src=10.130.0.5,nw_dst=224.0.0.251", everywhere("4")},
		{"a report of IGMP", fromPod + "ip,nw_proto=2,nw_src=10.130.0.5,nw_dst=224.0.0.22", everywhere("4")},
		{"a later fragment", fromPod + "udp,nw_src=10.130.0.5,nw_dst=239.1.2.3,nw_frag=later", everywhere("4")},
		{"of a pod alone in its tenant", "in_port=5,udp,nw_src=10.130.0.7,nw_dst=239.1.2.3", everywhere()},
		{"of a namespace that has it not enabled, in a VNID where another has", "in_port=7,udp,nw_src=10.130.0.9,nw_dst=239.1.2.3", nil},
		{"of a VNID where nobody has it enabled", "in_port=8,udp,nw_src=10.130.0.11,nw_dst=239.1.2.3", nil},
		{"of VNID 0 is for VNID 0", "in_port=6,udp,nw_src=10.130.0.8,nw_dst=239.1.2.3", everywhere()},
		{"with another pod's address", fromPod + "udp,nw_src=10.130.0.6,nw_dst=239.1.2.3", nil},
		{"without an address", fromPod + "ip,nw_proto=2,nw_src=0.0.0.0,nw_dst=224.0.0.22", nil},
		{"that would speak VXLAN", fromPod + "udp,nw_src=10.130.0.5,nw_dst=239.1.2.3,udp_dst=4789", nil},
		{"of the node by its gateway", "in_port=2,udp,nw_src=10.130.0.1,nw_dst=239.1.2.3", nil},
		{"of the node by its own address", "in_port=2,udp,nw_src=192.168.108.112,nw_dst=239.1.2.3", nil},
		{"back from the kernel with a pod's address", "in_port=2,udp,nw_src=10.130.0.5,nw_dst=239.1.2.3", nil},
		{"from a node", fromTunnel + "tun_id=0x82f8b2,udp,nw_src=10.131.0.4,nw_dst=239.1.2.3", []string{"3", "4"}},
		{"from a node to the ones that take part", fromTunnel + "tun_id=0x426a5,udp,nw_src=10.131.0.4,nw_dst=239.1.2.3", []string{"5"}},
		{"from a node of VNID 0", fromTunnel + "tun_id=0,udp,nw_src=10.131.0.4,nw_dst=239.1.2.3", []string{"6"}},
		{"from a node to nobody here", fromTunnel + "tun_id=1001,udp,nw_src=10.131.0.4,nw_dst=239.1.2.3", nil},
		{"from a stranger", "in_port=1,tun_src=192.168.108.200,tun_id=0x82f8b2,udp,nw_src=10.131.0.4,nw_dst=239.1.2.3", nil},
		{"from a node with an address from outside", fromTunnel + "tun_id=0x82f8b2,udp,nw_src=8.8.8.8,nw_dst=239.1.2.3", nil},
	}
	for _, c := range nodeCases()[:4] {
		sw := startNode(t, c)
		for _, w := range walks {
			t.Run(c.name+"/"+w.name, func(t *testing.T) {
				want := w.want
				if c.node.Mode == pipeline.Subnet {
					want = nil
				}
				answer := sw.Appctl(t, "ofproto/trace", "br0", w.packet)
				got := ends(answer)
				slices.Sort(got)
				if want := slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
					t.Errorf("got %q, want %q:\n%s", got, want, answer)
				}
			})
		}
	}
}

// ends reads all places where a traced packet goes, each as often as it does.
func ends(answer string) []string {
	var all []string
	tunnel := ""
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		if to, found := strings.CutPrefix(line, "set_field:"); found {
			tunnel = strings.TrimSuffix(to, "->tun_dst")
		}
		if port, found := strings.CutPrefix(line, "output:"); found {
			all = append(all, port)
			if port == "1" {
				all[len(all)-1] = "tunnel to " + tunnel
			}
		}
		if strings.Contains(line, ">> skipping output to input port") {
			all = all[:len(all)-1]
		}
	}
	return all
}

// TestMulticastCarriesTheVNIDThroughTheTunnel: before the first node is asked for.
func TestMulticastCarriesTheVNIDThroughTheTunnel(t *testing.T) {
	c := nodeCases()[1]
	answer := startNode(t, c).Appctl(t, "ofproto/trace", "br0", fromPod+"udp,nw_src=10.130.0.5,nw_dst=239.1.2.3")
	before, _, sent := strings.Cut(answer, "output:1")
	if !sent || !strings.Contains(before, "NXM_NX_TUN_ID[0..31] is now 0x82f8b2") {
		t.Errorf("the tunnel's id is not the VNID when the first node is sent to:\n%s", answer)
	}
}

func TestAPodMoreOrLessChangesItsFlowAndTheDelivery(t *testing.T) {
	c := nodeCases()[1]
	less := pipeline.MulticastFragment(c.node, pipeline.Multicast{VNID: 0x82f8b2, Pods: c.pods[:1]}).Flows
	more := pipeline.MulticastFragment(c.node, pipeline.Multicast{VNID: 0x82f8b2, Pods: c.pods[:2]}).Flows
	changed := 0
	for _, flow := range more {
		if !slices.ContainsFunc(less, flow.Equal) {
			changed++
		}
	}
	if len(less) != 2 || len(more) != 3 || changed != 2 {
		t.Errorf("one pod has %d flows, two have %d, of which %d are other ones", len(less), len(more), changed)
	}
}

func TestWhoeverHasNoFlowsHasNoMulticast(t *testing.T) {
	c := nodeCases()[1]
	pod := c.pods[0]
	pod.IP = c.node.Gateway
	for name, m := range map[string]pipeline.Multicast{
		"no pods":                       {VNID: 10},
		"a pod with another's address":  {VNID: 10, Pods: []pipeline.Pod{pod}},
		"a VNID that no tunnel carries": {VNID: pipeline.MaxVNID + 1, Pods: c.pods[:1]},
	} {
		if f := pipeline.MulticastFragment(c.node, m); len(f.Flows) != 0 {
			t.Errorf("%s: got %v, want no flows", name, f.Flows)
		}
	}
	for part, nodes := range map[int][]netip.Addr{
		0: nil, 1: {c.node.HostIP}, -1: addresses("192.168.108.111"), pipeline.MulticastParts: addresses("192.168.108.111"),
	} {
		if f := pipeline.MulticastPartFragment(c.node, part, nodes); len(f.Flows) != 0 {
			t.Errorf("part %d of %v: got %v, want no flows", part, nodes, f.Flows)
		}
	}
}

// TestAPartHasRoomForTheNodesOfALargeCluster: a message of OpenFlow has at most 65535
// bytes.
func TestAPartHasRoomForTheNodesOfALargeCluster(t *testing.T) {
	c := nodeCases()[1]
	var nodes []netip.Addr
	for i := range 1000 {
		nodes = append(nodes, address(0xc0a90000+uint32(i)))
	}
	f := pipeline.MulticastPartFragment(c.node, 0, nodes)
	if err := f.Flows[0].Check(); err != nil {
		t.Error(err)
	}
}
