package pipeline_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// A leaving is a packet to the world outside.
type leaving struct {
	protocol string // tcp, udp, sctp or icmp
	to       netip.Addr
	port     uint16
}

func (l leaving) String() string {
	return l.from("0.0.0.0")
}

// from is the packet as ofproto/trace takes it.
func (l leaving) from(pod string) string {
	text := fmt.Sprintf("%s,nw_src=%s,nw_dst=%s", l.protocol, pod, l.to)
	if l.protocol != "icmp" {
		text += fmt.Sprintf(",%s_dst=%d", l.protocol, l.port)
	}
	return text
}

// mayLeave is first match wins, as the API says it and without any thought of flows.
func mayLeave(rules []pipeline.FirewallRule, l leaving) bool {
	for _, r := range rules {
		ports := len(r.Ports) == 0
		for _, p := range r.Ports {
			all := p.First == 0 && p.Last == 0
			ports = ports || strings.EqualFold(string(p.Protocol), l.protocol) && (all || p.First <= l.port && l.port <= p.Last)
		}
		if ports && slices.ContainsFunc(r.To, func(n netip.Prefix) bool { return n.Contains(l.to) }) {
			return r.Allow
		}
	}
	return true
}

// anyFirewall draws rules that overlap often: few networks, one in the other, and few ports.
func anyFirewall(r *rand.Rand, most int) []pipeline.FirewallRule {
	networks := prefixes("0.0.0.0/0", "203.0.0.0/8", "203.0.112.0/20", "203.0.113.0/24", "203.0.113.0/25", "203.0.113.128/25",
		"203.0.113.7/32", "203.0.113.200/32", "0.0.0.0/32", "198.51.0.0/16", "198.51.100.0/24", "198.51.100.9/32")
	protocols := []pipeline.Protocol{pipeline.TCP, pipeline.UDP, pipeline.SCTP}
	var rules []pipeline.FirewallRule
	for range r.IntN(most + 1) {
		rule := pipeline.FirewallRule{Allow: r.IntN(2) == 0}
		for range r.IntN(3) {
			rule.To = append(rule.To, networks[r.IntN(len(networks))])
		}
		for range max(0, r.IntN(5)-2) {
			p := pipeline.FirewallPorts{Protocol: protocols[r.IntN(3)]}
			if r.IntN(4) > 0 {
				p.First = uint16(1 + r.IntN(20))
				p.Last = p.First + uint16(r.IntN(3)*r.IntN(10))
			}
			if r.IntN(20) == 0 {
				p.First, p.Last = uint16(1+r.IntN(20)), 65535
			}
			rule.Ports = append(rule.Ports, p)
		}
		rules = append(rules, rule)
	}
	return rules
}

func anyLeaving(r *rand.Rand) leaving {
	to := addresses("203.0.113.7", "203.0.113.8", "203.0.113.200", "203.0.113.201", "203.0.112.1", "203.9.9.9", "198.51.100.9", "198.51.100.10", "198.51.7.7", "8.8.8.8")
	port := uint16(1 + r.IntN(40))
	if r.IntN(10) == 0 {
		port = uint16(65535 - r.IntN(3))
	}
	return leaving{[]string{"tcp", "udp", "sctp", "icmp"}[r.IntN(4)], to[r.IntN(len(to))], port}
}

// TestFirstMatchWinsInFlowsByPriority asks thousands of firewalls, and a switch that is a
// loop: the flow of the highest priority that matches.
func TestFirstMatchWinsInFlowsByPriority(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		rules := anyFirewall(r, 2+int(seed%40))
		f := pipeline.FirewallFragment(pipeline.Firewall{Namespace: "a", Number: pipeline.FirstFirewall + 7, Rules: rules})
		keys := map[openflow.Key]bool{}
		for _, fl := range f.Flows {
			if keys[fl.Key()] {
				t.Fatalf("seed %d: two flows %s", seed, fl.Key())
			}
			keys[fl.Key()] = true
		}
		for range 40 {
			l := anyLeaving(r)
			allow, at := true, uint16(0)
			for _, fl := range f.Flows {
				if !takes(fl.String(), l) {
					continue
				}
				verdict := len(fl.Actions) > 0
				if fl.Priority == at && verdict != allow {
					t.Fatalf("seed %d: %s: two flows of priority %d disagree", seed, l, at)
				}
				if fl.Priority > at {
					allow, at = verdict, fl.Priority
				}
			}
			if want := mayLeave(rules, l); allow != want {
				t.Fatalf("seed %d: %s: flows say %t, the rules %t\n%v\n%s", seed, l, allow, want, rules, texts(f.Flows))
			}
		}
	}
}

// takes reads a rule's flow as a switch does.
func takes(flow string, l leaving) bool {
	match, _, _ := strings.Cut(flow, " actions=")
	for field := range strings.SplitSeq(match, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch key {
		case "tcp", "udp", "sctp":
			if key != l.protocol {
				return false
			}
		case "nw_dst":
			if !strings.Contains(value, "/") {
				value += "/32"
			}
			if !netip.MustParsePrefix(value).Contains(l.to) {
				return false
			}
		case "tp_dst":
			var port, mask uint16 = 0, 0xffff
			if n, _ := fmt.Sscanf(value, "0x%x/0x%x", &port, &mask); n != 2 {
				_, _ = fmt.Sscanf(value, "%d", &port)
			}
			if l.port&mask != port {
				return false
			}
		}
	}
	return true
}

func texts(flows []openflow.Flow) string {
	var b strings.Builder
	for _, f := range flows {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

// TestFirstMatchWinsInASwitch gives one node many namespaces that share few VNIDs, each
// with a firewall, and asks Open vSwitch what becomes of packets from its pods here, and from its pods
// on other nodes whose egress IP is here: 120 firewalls, 6,000 traces.
func TestFirstMatchWinsInASwitch(t *testing.T) {
	const namespaces, packets = 40, 30
	for _, c := range append(bothDatapaths(), nodeCases()[0]) {
		t.Run(c.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(42, uint64(len(c.name))))
			c.pods, c.egress, c.firewalls = nil, nil, nil
			hosted := map[uint32][]pipeline.EgressHosted{}
			for i := range uint32(namespaces) {
				vnid, number := 2000+i%5, 0x80000000+i
				c.pods = append(c.pods, pipeline.Pod{Namespace: fmt.Sprint("n", i), Name: "p", IP: address(0x0a820064 + i),
					Port: 30 + i, VNID: vnid, Firewall: number})
				hosted[vnid] = append(hosted[vnid], pipeline.EgressHosted{Slot: i / 5, MatchPods: true,
					Pods: []netip.Addr{address(0x0a830064 + i)}, Firewall: number})
				c.firewalls = append(c.firewalls, pipeline.Firewall{Namespace: fmt.Sprint("n", i), Number: number, Rules: anyFirewall(r, 2+2*int(i))})
			}
			for vnid, h := range hosted {
				c.egress = append(c.egress, pipeline.Egress{VNID: vnid, Hosted: h})
			}
			sw := startWith(t, c)
			for i, f := range c.firewalls {
				for range packets {
					l := anyLeaving(r)
					want := "drop"
					if mayLeave(f.Rules, l) {
						want = "2"
					}
					asked := []string{fmt.Sprintf("in_port=%d,%s", c.pods[i].Port, l.from(c.pods[i].IP.String()))}
					if c.node.Mode == pipeline.Multitenant {
						asked = append(asked, fmt.Sprintf("%stun_id=%d,%s", fromTunnel, c.pods[i].VNID, l.from(address(0x0a830064+uint32(i)).String())))
					}
					for _, packet := range asked {
						answer := sw.Appctl(t, "ofproto/trace", "br0", packet)
						if got := end(answer); got != want {
							t.Fatalf("%s: got %s, want %s by %v\n%s", packet, got, want, f.Rules, answer)
						}
					}
				}
			}
		})
	}
}

// TestOnlyItsOwnFirewallJudgesAPod is about the pods of the cases.
func TestOnlyItsOwnFirewallJudgesAPod(t *testing.T) {
	for _, c := range append(bothDatapaths(), nodeCases()[0]) {
		sw := startNode(t, c)
		tenants := c.node.Mode == pipeline.Multitenant
		for _, w := range []struct{ name, packet, want string }{
			{"allowed", "in_port=17,tcp,nw_src=10.130.0.30,nw_dst=8.8.8.8,tp_dst=443", "2"},
			{"allowed by a range", "in_port=17,tcp,nw_src=10.130.0.30,nw_dst=8.8.8.8,tp_dst=8999", "2"},
			{"beside the range", "in_port=17,tcp,nw_src=10.130.0.30,nw_dst=8.8.8.8,tp_dst=9000", "drop"},
			{"denied", "in_port=17,icmp,nw_src=10.130.0.30,nw_dst=8.8.8.8", "drop"},
			{"allowed before a denied network", "in_port=17,tcp,nw_src=10.130.0.30,nw_dst=192.0.2.7,tp_dst=1000", "2"},
			{"denied by ports", "in_port=17,tcp,nw_src=10.130.0.30,nw_dst=192.0.2.8,tp_dst=1003", "drop"},
			{"joined namespace with another firewall", "in_port=18,tcp,nw_src=10.130.0.31,nw_dst=192.0.2.8,tp_dst=80", "2"},
			{"joined namespace with another firewall, denied", "in_port=18,tcp,nw_src=10.130.0.31,nw_dst=192.0.2.7,tp_dst=443", "drop"},
			{"joined namespace without firewall", "in_port=5,icmp,nw_src=10.130.0.7,nw_dst=8.8.8.8", "2"},
			{"not known yet", "in_port=19,tcp,nw_src=10.130.0.32,nw_dst=8.8.8.8,tp_dst=443", "drop"},
			{"not known yet, to DNS of this node", "in_port=19,udp,nw_src=10.130.0.32,nw_dst=192.168.108.112,udp_dst=53", "2"},
			{"not known yet, to a service", "in_port=19,udp,nw_src=10.130.0.32,nw_dst=172.30.1.2,udp_dst=53", "2"},
			{"not known yet, to a pod", "in_port=19,tcp,nw_src=10.130.0.32,nw_dst=10.130.0.7", "5"},
			{"denied, but DNS of this node", "in_port=17,udp,nw_src=10.130.0.30,nw_dst=192.168.108.112,udp_dst=53", "2"},
			{"denied, but a pod", "in_port=17,udp,nw_src=10.130.0.30,nw_dst=10.130.0.7", "5"},
			{"this node is judged", "in_port=18,tcp,nw_src=10.130.0.31,nw_dst=192.168.108.112,tp_dst=22", "drop"},
			{"another node is judged", "in_port=18,tcp,nw_src=10.130.0.31,nw_dst=192.168.108.111,tp_dst=22", "drop"},
		} {
			t.Run(c.name+"/"+w.name, func(t *testing.T) { expect(t, sw.Appctl(t, "ofproto/trace", "br0", w.packet), w.want) })
		}
		if !tenants {
			continue
		}
		for _, w := range []struct{ name, packet, want string }{
			{"egress IP elsewhere: judged there", "in_port=20,icmp,nw_src=10.130.0.33,nw_dst=8.8.8.8", "tunnel to 192.168.108.113"},
			{"egress IP here, allowed", "in_port=21,tcp,nw_src=10.130.0.34,nw_dst=8.8.8.8,tp_dst=443", "2"},
			{"egress IP here, denied", "in_port=21,tcp,nw_src=10.130.0.34,nw_dst=8.8.8.8,tp_dst=80", "drop"},
			{"egress IP here, beside one without firewall", "in_port=11,tcp,nw_src=10.130.0.14,nw_dst=8.8.8.8,tp_dst=80", "2"},
			{"for another node, allowed", fromTunnel + "tun_id=1006,tcp,nw_src=10.131.0.9,nw_dst=8.8.8.8,tp_dst=443", "2"},
			{"for another node, denied", fromTunnel + "tun_id=1006,tcp,nw_src=10.131.0.9,nw_dst=8.8.8.8,tp_dst=80", "drop"},
			{"for another node, not known yet", fromTunnel + "tun_id=1007,tcp,nw_src=10.131.0.9,nw_dst=8.8.8.8,tp_dst=443", "drop"},
			{"for another node, a pod that is named, allowed", fromTunnel + "tun_id=1005,tcp,nw_src=10.131.0.23,nw_dst=8.8.8.8,tp_dst=443", "2"},
			{"for another node, a pod that is named, denied", fromTunnel + "tun_id=1005,tcp,nw_src=10.131.0.23,nw_dst=8.8.8.8,tp_dst=80", "drop"},
			{"for another node, a pod that is named, not known yet", fromTunnel + "tun_id=1005,tcp,nw_src=10.131.0.24,nw_dst=8.8.8.8,tp_dst=443", "drop"},
			{"for another node, a joined namespace without firewall", fromTunnel + "tun_id=1005,tcp,nw_src=10.131.0.20,nw_dst=8.8.8.8,tp_dst=80", "2"},
		} {
			t.Run(c.name+"/"+w.name, func(t *testing.T) { expect(t, sw.Appctl(t, "ofproto/trace", "br0", w.packet), w.want) })
		}
	}
}

// TestAnswersPassTheFirewall is about connections from outside to a pod that may not go
// there itself.
func TestAnswersPassTheFirewall(t *testing.T) {
	for _, c := range append(bothDatapaths(), nodeCases()[0]) {
		sw := startNode(t, c)
		for _, pod := range []string{"in_port=17,tcp,nw_src=10.130.0.30", "in_port=21,tcp,nw_src=10.130.0.34"} {
			packet := pod + ",nw_dst=8.8.8.8,tp_src=80,tp_dst=4000"
			expect(t, sw.Appctl(t, "ofproto/trace", "--ct-next", "trk,est,rpl", "br0", packet), "2")
			expect(t, sw.Appctl(t, "ofproto/trace", "--ct-next", "trk,est", "--ct-next", "trk,est", "br0", packet), "drop")
		}
	}
}

func expect(t *testing.T, answer, want string) {
	t.Helper()
	if got := end(answer); got != want {
		t.Errorf("got %s, want %s:\n%s", got, want, answer)
	}
}

// startWith is startNode for a case that has no golden file.
func startWith(t *testing.T, c nodeCase) *ovstest.Switch {
	t.Helper()
	sw := startPorts(t, c)
	file := filepath.Join(t.TempDir(), "flows.txt")
	if err := os.WriteFile(file, []byte(goldenText(c.fragments())), 0o600); err != nil {
		t.Fatal(err)
	}
	sw.Ofctl(t, "add-flows", "br0", file)
	return sw
}

// TestAFirewallThatIsNotInTheSwitchIsClosed takes the rules away from under the pods.
func TestAFirewallThatIsNotInTheSwitchIsClosed(t *testing.T) {
	for _, c := range bothDatapaths() {
		c.firewalls = nil
		sw := startWith(t, c)
		for _, packet := range []string{
			"in_port=17,tcp,nw_src=10.130.0.30,nw_dst=8.8.8.8,tp_dst=443", "in_port=21,tcp,nw_src=10.130.0.34,nw_dst=8.8.8.8,tp_dst=443",
			fromTunnel + "tun_id=1006,tcp,nw_src=10.131.0.9,nw_dst=8.8.8.8,tp_dst=443",
		} {
			expect(t, sw.Appctl(t, "ofproto/trace", "br0", packet), "drop")
		}
	}
}

// TestARuleInTheMiddleMovesNoOther is what a change costs: with thousands of rules, one flow.
func TestARuleInTheMiddleMovesNoOther(t *testing.T) {
	firewall := func(rules []pipeline.FirewallRule) map[openflow.Key]bool {
		keys := map[openflow.Key]bool{}
		for _, f := range pipeline.FirewallFragment(pipeline.Firewall{Namespace: "a", Number: pipeline.FirstFirewall, Rules: rules}).Flows {
			keys[f.Key()] = len(f.Actions) > 0
		}
		return keys
	}
	var rules []pipeline.FirewallRule
	for i := range uint32(10_000) {
		rules = append(rules, pipeline.FirewallRule{Allow: i%3 > 0, To: []netip.Prefix{netip.PrefixFrom(address(0x14000000+i<<8), 24)}})
	}
	rules = append(rules, pipeline.FirewallRule{To: prefixes("0.0.0.0/0")})
	before := firewall(rules)
	if len(before) != 10_002 {
		t.Errorf("%d rules have %d flows, want one each and one for the rest", len(rules), len(before))
	}
	for what, c := range map[string]struct {
		rule pipeline.FirewallRule
		most int
	}{
		"apart from all others": {pipeline.FirewallRule{Allow: true, To: prefixes("30.0.0.0/24")}, 1},
		"inside of one of them": {pipeline.FirewallRule{To: prefixes("20.39.16.7/32")}, 1},
		"with sixteen inside":   {pipeline.FirewallRule{To: prefixes("20.19.128.0/20")}, 40},
	} {
		after := firewall(slices.Insert(slices.Clone(rules), 5000, c.rule))
		changed := 0
		for key, allow := range after {
			if was, had := before[key]; !had || was != allow {
				changed++
			}
		}
		for key := range before {
			if _, has := after[key]; !has {
				changed++
			}
		}
		if changed == 0 || changed > c.most {
			t.Errorf("%s: %d flows change, want 1 to %d", what, changed, c.most)
		}
	}
}

func TestAFirewallTooDeepIsClosed(t *testing.T) {
	var rules []pipeline.FirewallRule
	for i := range uint32(pipeline.MaxFirewallDepth/2 + 1) {
		// A port of a network, and an address in it: each pair depends on the next.
		rules = append(rules,
			pipeline.FirewallRule{To: prefixes("20.0.0.0/8"), Ports: []pipeline.FirewallPorts{{Protocol: pipeline.TCP, First: uint16(1 + i), Last: uint16(1 + i)}}},
			pipeline.FirewallRule{Allow: true, To: []netip.Prefix{netip.PrefixFrom(address(0x14000000+i), 32)}})
	}
	flows := pipeline.FirewallFragment(pipeline.Firewall{Namespace: "a", Number: pipeline.FirstFirewall, Rules: rules}).Flows
	if len(flows) != 1 || len(flows[0].Actions) != 0 {
		t.Errorf("%d flows, want one that drops", len(flows))
	}
}

func TestRulesThatMatchNothingHaveNoFlows(t *testing.T) {
	none := pipeline.FirewallFragment(pipeline.Firewall{Namespace: "a", Number: pipeline.FirstFirewall, Rules: []pipeline.FirewallRule{
		{}, {Allow: true}, {To: []netip.Prefix{{}}}, {To: prefixes("2001:db8::/32")},
	}})
	if len(none.Flows) != 1 {
		t.Errorf("want the flow for the rest alone:\n%s", texts(none.Flows))
	}
	for _, number := range []uint32{pipeline.NoFirewall, 7, pipeline.UnknownFirewall} {
		if f := pipeline.FirewallFragment(pipeline.Firewall{Namespace: "a", Number: number, Rules: firewalls()[0].Rules}); len(f.Flows) != 0 {
			t.Errorf("number %d has flows", number)
		}
	}
}

// BenchmarkFirewall compiles large firewalls.
func BenchmarkFirewall(b *testing.B) {
	var networks, ports, names []pipeline.FirewallRule
	for i := range uint32(10_000) {
		to := netip.PrefixFrom(address(0x14000000+i<<8), 24)
		networks = append(networks, pipeline.FirewallRule{Allow: i%3 > 0, To: []netip.Prefix{to}})
		ports = append(ports, pipeline.FirewallRule{Allow: i%3 > 0, To: []netip.Prefix{to}, Ports: []pipeline.FirewallPorts{
			{Protocol: pipeline.TCP, First: uint16(i), Last: uint16(i + 100)}}})
	}
	for i := range uint32(1000) {
		name := pipeline.FirewallRule{Allow: i%3 > 0}
		for j := range uint32(50) {
			name.To = append(name.To, netip.PrefixFrom(address(0x14000000+i<<8+j), 32))
		}
		names = append(names, name)
	}
	last := pipeline.FirewallRule{To: prefixes("0.0.0.0/0")}
	for name, rules := range map[string][]pipeline.FirewallRule{"10000 networks": networks, "10000 networks with ports": ports, "1000 names of 50": names} {
		b.Run(name, func(b *testing.B) {
			flows := 0
			for b.Loop() {
				flows = len(pipeline.FirewallFragment(pipeline.Firewall{Namespace: "a", Number: pipeline.FirstFirewall, Rules: append(rules, last)}).Flows)
			}
			b.ReportMetric(float64(flows), "flows")
		})
	}
}
