package policyflow

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"pgregory.net/rapid"
)

func newBook(t testing.TB) *Book {
	t.Helper()
	b, err := New(testLayout())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// questions are asked of each pod: both directions, every address, protocol and port.
func questions(p *policy.Pod) []policy.Traffic {
	var all []policy.Traffic
	for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
		for net := range 2 {
			for host := range 5 {
				peer := netip.AddrFrom4([4]byte{10, 0, byte(net), byte(host + 1)})
				for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP} {
					for _, port := range []uint16{77, 78, 80, 81, 84, 91} {
						all = append(all, policy.Traffic{Direction: d, Pod: p, Peer: peer, Protocol: protocol, Port: port})
					}
				}
				all = append(all, policy.Traffic{Direction: d, Pod: p, Peer: peer, Protocol: 1})
			}
		}
	}
	return all
}

func packetOf(t policy.Traffic) packet {
	p := packet{src: t.Peer, dst: t.Pod.Addresses[0], protocol: t.Protocol, port: t.Port}
	if t.Direction == policy.Egress {
		p.src, p.dst = p.dst, p.src
	}
	return p
}

// told is what a book was told, of which everything is in force.
type told struct {
	groups   policy.Groups
	policies map[policy.Key]policy.Policy
	pods     map[string]policy.Pod
}

func (w *told) again(t *rapid.T, bits int) fragments {
	b, err := New(testLayout())
	if err != nil {
		t.Fatal(err)
	}
	narrow(b, bits)
	for _, p := range w.pods {
		b.SetPod(p)
	}
	for _, p := range w.policies {
		if err := b.SetPolicy(p); err != nil {
			t.Fatal(err)
		}
	}
	for id, g := range w.groups {
		b.SetGroup(id, slices.Collect(maps.Keys(g)))
	}
	f := fragments{}
	f.apply(b.Drain())
	return f
}

// narrow makes ids of so few bits that names collide.
func narrow(b *Book, bits int) {
	b.ids.hash = func(name string, try int) uint32 { return hashOf(name, try) & (1<<bits - 1) }
}

func TestFlowsDecideAsTheRulesSayAndAsIfMadeAnew(t *testing.T) {
	states, asked, allowed := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		b, err := New(testLayout())
		if err != nil {
			t.Fatal(err)
		}
		const bits = 6 // 64 numbers for up to 30 conjunctions: many collide.
		narrow(b, bits)
		w := &told{policy.Groups{}, map[policy.Key]policy.Policy{}, map[string]policy.Pod{}}
		have := fragments{}
		for i := range 5 {
			p := drawPolicy(t)
			p.Key.Name = fmt.Sprint("p", i)
			w.policies[p.Key] = p
			if err := b.SetPolicy(p); err != nil {
				t.Fatal(err)
			}
		}
		steps(t, b, w, have)
		for i := range groupIDs { // Let everything arrive.
			if w.groups[groupIDs[i]] == nil {
				w.setGroup(t, b, groupIDs[i])
			}
		}
		for _, p := range w.pods {
			for _, key := range p.Policies {
				if _, ok := w.policies[key]; !ok {
					w.policies[key] = policy.Policy{Key: key, Tier: policy.Namespace}
					if err := b.SetPolicy(w.policies[key]); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		have.apply(b.Drain())
		if want := w.again(t, bits); !reflect.DeepEqual(have, want) {
			t.Fatalf("got  %v\nwant %v", have, want)
		}
		n, yes := w.compare(t, have)
		states, asked, allowed = states+1, asked+n, allowed+yes
	})
	t.Logf("%d states, %d questions, to %d%% of which the answer was yes", states, asked, 100*allowed/max(1, asked))
	if allowed < asked/10 || allowed > asked*19/20 {
		t.Error("what was drawn asks for too little")
	}
}

func (w *told) setGroup(t *rapid.T, b *Book, id policy.GroupID) {
	members := drawMembers(t)
	w.groups[id] = map[policy.Member]struct{}{}
	for _, m := range members {
		w.groups[id][m] = struct{}{}
	}
	b.SetGroup(id, members)
}

// steps makes changes in any order.
func steps(t *rapid.T, b *Book, w *told, have fragments) {
	t.Repeat(map[string]func(*rapid.T){
		"group": func(t *rapid.T) { w.setGroup(t, b, rapid.SampledFrom(groupIDs).Draw(t, "group")) },
		"move": func(t *rapid.T) {
			id, m := rapid.SampledFrom(groupIDs).Draw(t, "group"), policy.Member{Addr: drawAddr(t)}
			if w.groups[id] == nil {
				t.Skip()
			}
			if _, in := w.groups[id][m]; in {
				delete(w.groups[id], m)
				b.MoveGroup(id, nil, []policy.Member{m})
			} else {
				w.groups[id][m] = struct{}{}
				b.MoveGroup(id, []policy.Member{m}, nil)
			}
		},
		"policy": func(t *rapid.T) {
			p := drawPolicy(t)
			w.policies[p.Key] = p
			if err := b.SetPolicy(p); err != nil {
				t.Fatal(err)
			}
		},
		"no policy": func(t *rapid.T) {
			key := drawKey(t)
			delete(w.policies, key)
			b.DeletePolicy(key)
		},
		"pod": func(t *rapid.T) {
			p := drawPod(t)
			w.pods[p.Name] = p
			b.SetPod(p)
		},
		"no pod": func(t *rapid.T) {
			p := drawPod(t)
			delete(w.pods, p.Name)
			b.DeletePod(p.Namespace, p.Name)
		},
		"drain": func(*rapid.T) { have.apply(b.Drain()) },
	})
}

// compare asks the flows and the rules.
func (w *told) compare(t *rapid.T, have fragments) (asked, allowed int) {
	flows := append(have.flows(), testLayout().Base().Flows...)
	keys := map[openflow.Key]bool{}
	for _, f := range flows {
		if err := f.Check(); err != nil {
			t.Fatal(err)
		}
		if keys[f.Key()] {
			t.Fatalf("two flows are one to the switch: %s", f)
		}
		keys[f.Key()] = true
	}
	sim := simulate(flows)
	for _, p := range w.pods {
		var applied []*policy.Policy
		for _, key := range p.Policies {
			one := w.policies[key]
			applied = append(applied, &one)
		}
		for _, q := range questions(&p) {
			want := policy.Decide(q, applied, w.groups)
			if got := sim.allows(q.Direction, packetOf(q)); got != want.Allowed {
				t.Fatalf("%s %s by %s %d: the flows say %v, the rules %+v\n%v\n%v", q.Direction, q.Peer, q.Protocol, q.Port, got, want, w.policies, flows)
			}
			if asked++; want.Allowed {
				allowed++
			}
		}
	}
	return asked, allowed
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// one is a policy of one rule, for one pod.
func one(r policy.Rule) (policy.Policy, policy.Pod) {
	r.Action = policy.Allow
	p := policy.Policy{Key: policy.Key{Kind: "NetworkPolicy", Namespace: "shop", Name: "p"}, Tier: policy.Namespace,
		Ingress: r.Direction == policy.Ingress, Egress: r.Direction == policy.Egress, Rules: []policy.Rule{r}}
	return p, policy.Pod{Namespace: "shop", Name: "web", Addresses: []netip.Addr{netip.MustParseAddr("10.130.0.5")},
		Ports: []policy.NamedPort{{Name: "http", Protocol: policy.TCP, Port: 8080}}, Policies: []policy.Key{p.Key}}
}

func TestHowRulesLookInASwitch(t *testing.T) {
	tests := []struct {
		name string
		rule policy.Rule
		want []string
	}{
		{"peers and ports", policy.Rule{Direction: policy.Ingress, Peers: []policy.Peer{{Group: "g"}}, Ports: []policy.PortRange{{Protocol: policy.TCP, First: 80, Last: 81}}}, []string{
			"table=81, priority=100,ip,nw_dst=10.130.0.5 actions=drop",
			"table=81, priority=200,conj_id=1,ip,reg4=0 actions=output:8", "table=81, priority=200,conj_id=1,ip,reg4=0x1 actions=output:8",
			"table=81, priority=200,ip,nw_dst=10.130.0.5 actions=conjunction(1,1/3)",
			"table=81, priority=200,ip,nw_src=10.131.0.9 actions=conjunction(1,2/3)",
			"table=81, priority=200,tcp,tp_dst=0x50/0xfffe actions=conjunction(1,3/3)"}},
		{"everything", policy.Rule{Direction: policy.Egress, AnyPeer: true, AnyPort: true}, []string{
			"table=22, priority=100,ip,nw_src=10.130.0.5 actions=drop",
			"table=22, priority=200,conj_id=1,ip,reg4=0 actions=output:7", "table=22, priority=200,conj_id=1,ip,reg4=0x1 actions=output:7",
			"table=22, priority=200,ip actions=conjunction(1,2/2)",
			"table=22, priority=200,ip,nw_src=10.130.0.5 actions=conjunction(1,1/2)"}},
		{"a block with an exception", policy.Rule{Direction: policy.Egress, AnyPort: true, Peers: []policy.Peer{{Block: policy.Block{CIDR: prefix("10.0.0.0/30"), Except: []netip.Prefix{prefix("10.0.0.1/32")}}}}}, []string{
			"table=22, priority=100,ip,nw_src=10.130.0.5 actions=drop",
			"table=22, priority=200,conj_id=1,ip,reg4=0 actions=output:7", "table=22, priority=200,conj_id=1,ip,reg4=0x1 actions=output:7",
			"table=22, priority=200,ip,nw_dst=10.0.0.0 actions=conjunction(1,2/2)",
			"table=22, priority=200,ip,nw_dst=10.0.0.2/31 actions=conjunction(1,2/2)",
			"table=22, priority=200,ip,nw_src=10.130.0.5 actions=conjunction(1,1/2)"}},
		{"a named port", policy.Rule{Direction: policy.Ingress, AnyPeer: true, Named: []policy.PortName{{Protocol: policy.TCP, Name: "http"}}}, []string{
			"table=81, priority=100,ip,nw_dst=10.130.0.5 actions=drop",
			"table=81, priority=200,conj_id=1,ip,reg4=0 actions=output:8", "table=81, priority=200,conj_id=1,ip,reg4=0x1 actions=output:8",
			"table=81, priority=200,ip actions=conjunction(1,2/2)",
			"table=81, priority=200,tcp,nw_dst=10.130.0.5,tp_dst=8080 actions=conjunction(1,1/2)"}},
		{"endpoints", policy.Rule{Direction: policy.Egress, Endpoints: []policy.Endpoints{{Group: "http", Protocol: policy.UDP}}}, []string{
			"table=22, priority=100,ip,nw_src=10.130.0.5 actions=drop",
			"table=22, priority=200,conj_id=1,ip,reg4=0 actions=output:7", "table=22, priority=200,conj_id=1,ip,reg4=0x1 actions=output:7",
			"table=22, priority=200,ip,nw_src=10.130.0.5 actions=conjunction(1,1/2)",
			"table=22, priority=200,udp,nw_dst=10.131.0.9,tp_dst=81 actions=conjunction(1,2/2)"}},
		{"peers of IPv6 alone let nobody in", policy.Rule{Direction: policy.Ingress, AnyPort: true, Peers: []policy.Peer{{Block: policy.Block{CIDR: prefix("::/0")}}}}, []string{
			"table=81, priority=100,ip,nw_dst=10.130.0.5 actions=drop",
			"table=81, priority=200,conj_id=1,ip,reg4=0 actions=output:8", "table=81, priority=200,conj_id=1,ip,reg4=0x1 actions=output:8",
			"table=81, priority=200,ip,nw_dst=10.130.0.5 actions=conjunction(1,1/2)"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBook(t)
			b.ids.hash = func(string, int) uint32 { return 1 }
			b.SetGroup("g", []policy.Member{{Addr: netip.MustParseAddr("10.131.0.9")}, {Addr: netip.MustParseAddr("fd00::9")}})
			b.SetGroup("http", []policy.Member{{Addr: netip.MustParseAddr("10.131.0.9"), Port: 81}})
			p, pod := one(test.rule)
			if err := b.SetPolicy(p); err != nil {
				t.Fatal(err)
			}
			b.SetPod(pod)
			have := fragments{}
			have.apply(b.Drain())
			var got []string
			for _, f := range have.flows() {
				got = append(got, f.String())
			}
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", lines(got), lines(test.want))
			}
		})
	}
}

func lines(all []string) string {
	text := ""
	for _, s := range all {
		text += "\t" + s + "\n"
	}
	return text
}

func TestANewPodIsClosedUntilItsPoliciesAreIn(t *testing.T) {
	b, have := newBook(t), fragments{}
	p, pod := one(policy.Rule{Direction: policy.Ingress, AnyPort: true, Peers: []policy.Peer{{Group: "g"}}})
	from := netip.MustParseAddr("10.131.0.9")
	enters := func() bool {
		have.apply(b.Drain())
		return simulate(append(have.flows(), testLayout().Base().Flows...)).allows(policy.Ingress, packet{from, pod.Addresses[0], policy.TCP, 80})
	}
	b.SetPod(pod)
	if enters() || !slices.Equal(b.Missing("shop", "web"), []string{"NetworkPolicy shop/p"}) {
		t.Errorf("before the policy: open, or missing %q", b.Missing("shop", "web"))
	}
	if err := b.SetPolicy(p); err != nil {
		t.Fatal(err)
	}
	if enters() || !slices.Equal(b.Missing("shop", "web"), []string{"group g of NetworkPolicy shop/p"}) {
		t.Errorf("before the group: open, or missing %q", b.Missing("shop", "web"))
	}
	b.SetGroup("g", []policy.Member{{Addr: from}})
	if !enters() || b.Missing("shop", "web") != nil {
		t.Errorf("with everything: closed, or missing %q", b.Missing("shop", "web"))
	}
	p.Rules = []policy.Rule{{Direction: policy.Ingress, Action: policy.Allow, AnyPort: true, Peers: []policy.Peer{{Group: "h"}}}}
	if err := b.SetPolicy(p); err != nil {
		t.Fatal(err)
	}
	if !enters() {
		t.Error("what was in force does not hold until the new version is complete")
	}
	b.SetGroup("h", nil)
	if enters() {
		t.Error("the new version is complete, and not in force")
	}
	b.DeletePod("shop", "web")
	b.DeletePolicy(p.Key)
	have.apply(b.Drain())
	if len(have) != 0 || len(b.terms)+len(b.owners)+len(b.targets)+len(b.users)+len(b.conjunctions)+len(b.ids.names)+len(b.ids.tries) != 0 {
		t.Errorf("when all is gone there is still %v", have)
	}
}

func TestMoreRulesThanPrioritiesAreRefused(t *testing.T) {
	b := newBook(t)
	many := policy.Policy{Key: policy.Key{Kind: "A", Name: "a"}, Tier: policy.Admin, Rules: make([]policy.Rule, MaxOrderedRules-1)}
	for i := range many.Rules {
		many.Rules[i] = policy.Rule{Direction: policy.Ingress, Action: policy.Deny}
	}
	if err := b.SetPolicy(many); err != nil {
		t.Fatal(err)
	}
	more := policy.Policy{Key: policy.Key{Kind: "A", Name: "b"}, Tier: policy.Admin, Rules: many.Rules[:2]}
	if err := b.SetPolicy(more); err == nil {
		t.Error("two rules more were taken")
	}
	more.Rules = more.Rules[:1]
	if err := b.SetPolicy(more); err != nil {
		t.Error(err)
	}
}

func TestALayoutThatCannotBeIsRefused(t *testing.T) {
	backwards, silent := testLayout(), testLayout()
	backwards.Egress.Admin = 23
	silent.Ingress.Accept = nil
	early := testLayout()
	early.Egress.Accept = []openflow.Action{openflow.Goto(22)}
	for name, l := range map[string]Layout{"tables backwards": backwards, "nothing to do": silent, "back from the end": early} {
		if _, err := New(l); err == nil {
			t.Errorf("%s: %s", name, fmt.Sprint(l))
		}
	}
}
