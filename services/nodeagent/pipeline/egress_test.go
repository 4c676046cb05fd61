package pipeline_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// bothDatapaths are the cases that keep tenants apart, on either datapath.
func bothDatapaths() []nodeCase {
	all := nodeCases()
	return []nodeCase{all[1], all[3]}
}

func TestPacketsLeaveWhereTheyMay(t *testing.T) {
	outside := ",nw_dst=8.8.8.8,tp_dst=80"
	for _, c := range bothDatapaths() {
		sw := startNode(t, c)
		for _, w := range []struct{ name, packet, want string }{
			{"without egress IPs", "in_port=3,tcp,nw_src=10.130.0.5" + outside, "2"},
			{"egress IP on another node", "in_port=8,tcp,nw_src=10.130.0.11" + outside, "tunnel to 192.168.108.113"},
			{"egress IP on another node, ICMP", "in_port=8,icmp,nw_src=10.130.0.11,nw_dst=8.8.8.8", "tunnel to 192.168.108.113"},
			{"egress IP nowhere", "in_port=10,tcp,nw_src=10.130.0.13" + outside, "drop"},
			{"egress IP here", "in_port=11,tcp,nw_src=10.130.0.14" + outside, "2"},
			{"a pod's own egress IP on another node", "in_port=12,tcp,nw_src=10.130.0.20" + outside, "tunnel to 192.168.108.113"},
			{"a pod's own egress IP here", "in_port=14,tcp,nw_src=10.130.0.22" + outside, "2"},
			{"a pod's own egress IP nowhere", "in_port=15,tcp,nw_src=10.130.0.23" + outside, "drop"},
			{"a pod of the VNID without egress IPs", "in_port=16,tcp,nw_src=10.130.0.24" + outside, "2"},
			{"egress IP nowhere, to DNS of this node", "in_port=10,udp,nw_src=10.130.0.13,nw_dst=192.168.108.112,udp_dst=53", "2"},
			{"egress IP nowhere, to this node", "in_port=10,tcp,nw_src=10.130.0.13,nw_dst=192.168.108.112,tp_dst=80", "2"},
			{"egress IP nowhere, to a pod", "in_port=10,tcp,nw_src=10.130.0.13,nw_dst=10.130.0.8", "6"},
			{"not known yet", "in_port=7,tcp,nw_src=10.130.0.9" + outside, "drop"},
			{"not known yet, to DNS of this node", "in_port=7,udp,nw_src=10.130.0.9,nw_dst=192.168.108.112,udp_dst=53", "2"},
			{"not known yet, to a pod", "in_port=7,tcp,nw_src=10.130.0.9,nw_dst=10.130.0.7", "5"},
			{"for another node, hosted here", fromTunnel + "tun_id=1002,tcp,nw_src=10.131.0.4" + outside, "2"},
			{"for another node, not hosted here", fromTunnel + "tun_id=1001,tcp,nw_src=10.131.0.4" + outside, "drop"},
			{"for another node, of local pods alone", fromTunnel + "tun_id=1004,tcp,nw_src=10.131.0.4" + outside, "drop"},
			{"for another node, a VNID without egress IPs", fromTunnel + "tun_id=0x82f8b2,tcp,nw_src=10.131.0.4" + outside, "drop"},
			{"for another node, VNID 0", fromTunnel + "tun_id=0,tcp,nw_src=10.131.0.4" + outside, "drop"},
			{"for another node, a pod that is named", fromTunnel + "tun_id=1005,tcp,nw_src=10.131.0.20" + outside, "2"},
			{"for another node, a pod that two addresses claim", fromTunnel + "tun_id=1005,tcp,nw_src=10.131.0.21" + outside, "drop"},
			{"for another node, a pod that is not named", fromTunnel + "tun_id=1005,tcp,nw_src=10.131.0.99" + outside, "drop"},
		} {
			t.Run(c.name+"/"+w.name, func(t *testing.T) {
				answer := sw.Appctl(t, "ofproto/trace", "br0", w.packet)
				if got := end(answer); got != w.want {
					t.Errorf("got %s, want %s:\n%s", got, w.want, answer)
				}
			})
		}
	}
}

// TestVNIDZeroLeavesAsOthersDo gives the global namespace an egress IP on this node, and a
// firewall.
func TestVNIDZeroLeavesAsOthersDo(t *testing.T) {
	here, its := "in_port=6,tcp,nw_src=10.130.0.8", fromTunnel+"tun_id=0,tcp,nw_src=10.131.0.4"
	for _, c := range bothDatapaths() {
		c.pods = slices.Clone(c.pods)
		c.pods[3].Firewall = 0x80000001
		c.egress = []pipeline.Egress{{Whole: &pipeline.EgressWay{{}}, Hosted: []pipeline.EgressHosted{{Firewall: 0x80000001}}}}
		mark := "set(skb_mark(0xff000000)" // A mark of 0 would be none.
		if c.node.Userspace {
			mark = "set(eth(src=0a:59:ff:00:00:00"
		}
		sw := startWith(t, c)
		for _, from := range []string{here, its} {
			answer := sw.Appctl(t, "ofproto/trace", "br0", from+",nw_dst=8.8.8.8,tp_dst=443")
			if expect(t, answer, "2"); !strings.Contains(answer, mark) {
				t.Errorf("%s: %s leaves without %s:\n%s", c.name, from, mark, answer)
			}
			expect(t, sw.Appctl(t, "ofproto/trace", "br0", from+",nw_dst=8.8.8.8,tp_dst=80"), "drop")
		}
	}
}

// TestTheKernelHearsTheMark looks at what the datapath is told.
func TestTheKernelHearsTheMark(t *testing.T) {
	for _, c := range bothDatapaths() {
		sw := startNode(t, c)
		for packet, mark := range map[string]string{
			"in_port=11,tcp,nw_src=10.130.0.14,nw_dst=8.8.8.8":                        "0x3ec",
			fromTunnel + "tun_id=1002,tcp,nw_src=10.131.0.4,nw_dst=8.8.8.8":           "0x3ea",
			"in_port=14,tcp,nw_src=10.130.0.22,nw_dst=8.8.8.8":                        "0x30003ec",
			fromTunnel + "tun_id=1005,tcp,nw_src=10.131.0.20,nw_dst=8.8.8.8":          "0x10003ec",
			"in_port=3,dl_src=0a:58:00:00:00:01,tcp,nw_src=10.130.0.5,nw_dst=8.8.8.8": "",
		} {
			want := "set(skb_mark(" + mark + "))"
			if c.node.Userspace {
				var bits uint32
				_, _ = fmt.Sscanf(mark, "0x%x", &bits)
				want = fmt.Sprintf("set(eth(src=0a:59:%02x:%02x:%02x:%02x", byte(bits>>24), byte(bits>>16), byte(bits>>8), byte(bits))
			}
			answer := sw.Appctl(t, "ofproto/trace", "br0", packet)
			if mark == "" {
				if strings.Contains(answer, "skb_mark(") || strings.Contains(answer, "src=0a:59") {
					t.Errorf("%s: %s: has a mark:\n%s", c.name, packet, answer)
				}
			} else if !strings.Contains(answer, want) {
				t.Errorf("%s: %s: want %s:\n%s", c.name, packet, want, answer)
			}
		}
	}
}

func TestAForgedMarkIsDropped(t *testing.T) {
	c := bothDatapaths()[1]
	answer := startNode(t, c).Appctl(t, "ofproto/trace", "br0", "in_port=3,dl_src=0a:59:00:00:03:ec,tcp,nw_src=10.130.0.5,nw_dst=8.8.8.8")
	if got := end(answer); got != "drop" {
		t.Errorf("got %s, want drop:\n%s", got, answer)
	}
}

// TestAnswersToOutsideLeaveByThisNode is about connections that came in from outside.
func TestAnswersToOutsideLeaveByThisNode(t *testing.T) {
	c := bothDatapaths()[0]
	sw := startNode(t, c)
	for _, pod := range []string{"in_port=8,tcp,nw_src=10.130.0.11", "in_port=9,tcp,nw_src=10.130.0.12", "in_port=10,tcp,nw_src=10.130.0.13", "in_port=15,tcp,nw_src=10.130.0.23"} {
		answer := sw.Appctl(t, "ofproto/trace", "--ct-next", "trk,est,rpl", "br0", pod+",nw_dst=8.8.8.8,tp_src=80,tp_dst=4000")
		if got := end(answer); got != "2" || strings.Contains(answer, "skb_mark(") {
			t.Errorf("%s: got %s, want 2 and no mark:\n%s", pod, got, answer)
		}
	}
}

// TestConnectionsAreSpread follows many connections of one pod.
func TestConnectionsAreSpread(t *testing.T) {
	for _, c := range bothDatapaths() {
		sw := startNode(t, c)
		ends := map[string]int{}
		for port := range 60 {
			packet := fmt.Sprintf("in_port=9,tcp,nw_src=10.130.0.12,nw_dst=8.8.8.8,tp_src=%d,tp_dst=80", 40000+port)
			first := end(sw.Appctl(t, "ofproto/trace", "br0", packet))
			ends[first]++
			if again := end(sw.Appctl(t, "ofproto/trace", "br0", packet)); again != first {
				t.Fatalf("%s: %s leaves at %s, and then at %s", c.name, packet, first, again)
			}
		}
		for _, place := range []string{"2", "tunnel to 192.168.108.111", "tunnel to 192.168.108.113"} {
			// A third each is 20; fewer than 6 is a chance of one in 100,000.
			if ends[place] < 6 {
				t.Errorf("%s: of 60 connections %v leave at %s", c.name, ends, place)
			}
		}
		if len(ends) != 3 {
			t.Errorf("%s: they leave at %v", c.name, ends)
		}
	}
}

func TestEgressThatCannotBeHasNoFlows(t *testing.T) {
	whole := &pipeline.EgressWay{{}}
	subnet, multitenant := nodeCases()[0].node, nodeCases()[1].node
	for name, f := range map[string]pipeline.Fragment{
		"subnet mode":                    pipeline.EgressFragment(subnet, pipeline.Egress{VNID: 5, Whole: whole, Hosted: []pipeline.EgressHosted{{}}}),
		"a VNID that no tunnel carries":  pipeline.EgressFragment(multitenant, pipeline.Egress{VNID: pipeline.MaxVNID + 1, Whole: whole}),
		"nothing":                        pipeline.EgressFragment(multitenant, pipeline.Egress{VNID: 5}),
		"a slot that has no mark":        pipeline.EgressFragment(multitenant, pipeline.Egress{VNID: 5, Hosted: []pipeline.EgressHosted{{Slot: 63}}}),
		"two addresses for all the VNID": pipeline.EgressFragment(multitenant, pipeline.Egress{VNID: 5, Hosted: []pipeline.EgressHosted{{}, {Slot: 1}}}),
	} {
		if len(f.Flows) != 0 {
			t.Errorf("%s: %v", name, f.Flows)
		}
	}
}
