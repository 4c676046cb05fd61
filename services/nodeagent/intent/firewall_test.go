package intent

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// rule is "allow TO" or "deny TO", to a network or a name.
func rule(text string) *egressv1.EgressRule {
	verb, to, _ := strings.Cut(text, " ")
	r := &egressv1.EgressRule{Type: egressv1.RuleType_RULE_TYPE_DENY}
	if verb == "allow" {
		r.Type = egressv1.RuleType_RULE_TYPE_ALLOW
	}
	if _, err := netip.ParsePrefix(to); err == nil {
		r.CidrSelector = to
	} else {
		r.DnsName = to
	}
	return r
}

func firewallPolicy(namespace, name string, order uint32, rules ...string) *egressv1.EgressNetworkPolicy {
	p := &egressv1.EgressNetworkPolicy{Namespace: namespace, Name: name, Order: order}
	for _, text := range rules {
		p.Rules = append(p.Rules, rule(text))
	}
	return p
}

func resolved(name string, revision uint64, addresses ...string) *egressv1.DNSName {
	return &egressv1.DNSName{Name: name, Addresses: addresses, State: egressv1.NameState_NAME_STATE_RESOLVED, Revision: revision}
}

// passes says whether table 101 lets a packet of a pod out, as a switch reads the flows.
func passes(flows []openflow.Flow, pod, to netip.Addr) bool {
	number := uint32(0)
	for range 2 { // The lookup leads through the table once more.
		best := -1
		var actions string
		for _, f := range flows {
			match, does, _ := strings.Cut(f.String(), " actions=")
			if f.Table != 101 || int(f.Priority) <= best || !leavesBy(match, number, pod, to) {
				continue
			}
			best, actions = int(f.Priority), does
		}
		load, again, classified := strings.Cut(actions, "->NXM_NX_REG5[],ct(")
		if !classified {
			return strings.HasSuffix(actions, "output:2")
		}
		_ = again
		n, _ := strconv.ParseUint(strings.TrimPrefix(load, "load:"), 0, 32)
		number = uint32(n)
	}
	return false
}

func leavesBy(match string, number uint32, pod, to netip.Addr) bool {
	for field := range strings.SplitSeq(match, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch key {
		case "ct_state", "in_port":
			if value != "-trk" || number != 0 {
				return false
			}
		case "nw_src":
			if value != pod.String() {
				return false
			}
		case "nw_dst":
			if !strings.Contains(value, "/") {
				value += "/32"
			}
			if !netip.MustParsePrefix(value).Contains(to) {
				return false
			}
		case "reg5":
			want, mask, masked := strings.Cut(value, "/")
			n, _ := strconv.ParseUint(want, 0, 32)
			m := uint64(0xffffffff)
			if masked {
				m, _ = strconv.ParseUint(mask, 0, 32)
			}
			if uint64(number)&m != n {
				return false
			}
		}
	}
	return true
}

func following(t *testing.T) *State {
	t.Helper()
	s := known(t, true)
	s.FollowFirewalls()
	return s
}

func TestAPodIsClosedUntilItsNamespacesFirewallIsKnown(t *testing.T) {
	s := following(t)
	s.SetNetNamespace(namespace("red", 42, 4))
	pod, outside := podNumber(1, "red"), netip.MustParseAddr("8.8.8.8")
	s.AddPod(pod)
	want := func(what string, open bool) {
		t.Helper()
		if got := passes(everything(s), pod.IP, outside); got != open {
			t.Errorf("%s: it passes: %t", what, got)
		}
	}
	set := func(policies ...*egressv1.EgressNetworkPolicy) Change {
		t.Helper()
		change, err := s.SetFirewall("red", 7, policies)
		if err != nil {
			t.Fatal(err)
		}
		return change
	}
	want("not known", false)
	if change := set(); !slices.Contains(change.Owners, pod.Owner()) {
		t.Errorf("that there is none touches %q", change.Owners)
	}
	want("known to be none", true)
	set(firewallPolicy("red", "empty", 1))
	want("a policy without rules", true)
	change := set(firewallPolicy("red", "b", 1, "deny 0.0.0.0/0"))
	want("a rule that denies", false)
	if !slices.Contains(change.Owners, pod.Owner()) || !slices.Contains(change.Owners, "firewall red") || !slices.Contains(change.Objects, Object{KindFirewall, "red"}) {
		t.Errorf("the first rule touches %v", change)
	}
	change = set(firewallPolicy("red", "b", 1, "deny 0.0.0.0/0"), firewallPolicy("red", "a", 1, "allow 8.8.8.0/24"), firewallPolicy("red", "c", 0, "deny 8.8.8.9/32"))
	want("policies of equal order go by name", true)
	if !slices.Equal(change.Owners, []string{"firewall red"}) {
		t.Errorf("other rules touch %q", change.Owners)
	}
	set(firewallPolicy("red", "b", 1, "deny 0.0.0.0/0"), firewallPolicy("red", "a", 2, "allow 8.8.8.0/24"))
	want("policies go by their order", false)
	if _, err := s.SetFirewall("red", 8, []*egressv1.EgressNetworkPolicy{{Name: "x", Rules: []*egressv1.EgressRule{{}}}}); err == nil {
		t.Error("a rule of no type is taken")
	}
	want("a refused policy changes nothing", false)
	set()
	want("none any more", true)
	s.ForgetFirewall("red")
	want("forgotten", false)
}

func TestRulesWaitForTheAddressesOfTheirNames(t *testing.T) {
	s := following(t)
	s.SetNetNamespace(namespace("red", 42, 4))
	pod, evil, other := podNumber(1, "red"), netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("8.8.8.8")
	s.AddPod(pod)
	want := func(what string, toEvil, toOther bool) {
		t.Helper()
		flows := everything(s)
		if a, b := passes(flows, pod.IP, evil), passes(flows, pod.IP, other); a != toEvil || b != toOther {
			t.Errorf("%s: it passes to the name: %t, elsewhere: %t", what, a, b)
		}
	}
	tell := func(name *egressv1.DNSName) Change {
		t.Helper()
		change, err := s.SetDNSName(name)
		if err != nil {
			t.Fatal(err)
		}
		return change
	}
	change, _ := s.SetFirewall("red", 7, []*egressv1.EgressNetworkPolicy{firewallPolicy("red", "a", 0, "deny evil.example")})
	want("a name that is not known", false, false)
	if revision, _ := s.Revision(Object{KindFirewall, "red"}); revision != 0 || len(change.Objects) != 0 {
		t.Errorf("it is said to be in force: revision %d, %v", revision, change)
	}
	if !slices.Equal(s.FirewallNames(), []string{"evil.example"}) {
		t.Errorf("names are %q", s.FirewallNames())
	}
	tell(&egressv1.DNSName{Name: "evil.example", State: egressv1.NameState_NAME_STATE_UNRESOLVED, Revision: 8})
	want("a name that is being looked up", false, false)
	change = tell(resolved("evil.example", 9, "203.0.113.7"))
	want("a name that is known", false, true)
	if !slices.Contains(change.Objects, Object{KindFirewall, "red"}) || !slices.Contains(change.Owners, pod.Owner()) {
		t.Errorf("the name's addresses touch %v", change)
	}
	if _, err := s.SetFirewall("red", 10, []*egressv1.EgressNetworkPolicy{firewallPolicy("red", "a", 0, "deny worse.example", "allow 0.0.0.0/0")}); err != nil {
		t.Fatal(err)
	}
	want("rules with another name wait, and the earlier ones hold", false, true)
	tell(&egressv1.DNSName{Name: "worse.example", State: egressv1.NameState_NAME_STATE_UNRESOLVED, Error: "no answer within 2s", Revision: 11})
	want("a name that cannot be looked up is known to have no addresses", true, true)
	tell(resolved("worse.example", 12, "203.0.113.7"))
	want("until it has", false, true)
	if change := tell(resolved("worse.example", 13, "203.0.113.7", "203.0.113.8")); !slices.Equal(change.Owners, []string{"firewall red"}) {
		t.Errorf("another address touches %q", change.Owners)
	}
	if _, err := s.SetDNSName(resolved("worse.example", 14, "2001:db8::1")); err == nil {
		t.Error("an IPv6 address is taken")
	}
}

// TestFirewallsAreTheSameAfterARestart tells two states the same in two orders.
func TestFirewallsAreTheSameAfterARestart(t *testing.T) {
	tell := func(order []int) []string {
		s := following(t)
		steps := []func(){
			func() { s.SetNetNamespace(namespace("red", 42, 4)); s.SetNetNamespace(namespace("blue", 42, 4)) },
			func() { s.AddPod(podNumber(1, "red")); s.AddPod(podNumber(2, "blue")) },
			func() {
				_, _ = s.SetFirewall("red", 1, []*egressv1.EgressNetworkPolicy{firewallPolicy("red", "a", 0, "allow a.example", "deny 0.0.0.0/0")})
			},
			func() {
				_, _ = s.SetFirewall("blue", 2, []*egressv1.EgressNetworkPolicy{firewallPolicy("blue", "a", 0, "deny a.example")})
			},
			func() { _, _ = s.SetDNSName(resolved("a.example", 3, "203.0.113.7")) },
		}
		for _, i := range order {
			steps[i]()
		}
		var all []string
		for owner, flows := range s.CompileAll() {
			for _, f := range flows {
				all = append(all, owner+": "+f.String())
			}
		}
		slices.Sort(all)
		return all
	}
	first := tell([]int{0, 1, 2, 3, 4})
	if again := tell([]int{4, 3, 2, 1, 0}); !slices.Equal(first, again) {
		t.Errorf("the flows are\n%s\nand then\n%s", strings.Join(first, "\n"), strings.Join(again, "\n"))
	}
}

// TestOtherServersAreListenedTo says twice whom pods ask: only pods that may reach a wildcard
// get other flows.
func TestOtherServersAreListenedTo(t *testing.T) {
	s := following(t)
	s.SetNetNamespace(namespace("red", 42, 4))
	s.SetNetNamespace(namespace("blue", 43, 4))
	s.AddPod(podNumber(1, "red"))
	s.AddPod(podNumber(2, "blue"))
	for namespace, to := range map[string]string{"red": "*.example", "blue": "a.example"} {
		if _, err := s.SetFirewall(namespace, 1, []*egressv1.EgressNetworkPolicy{firewallPolicy(namespace, "a", 0, "allow "+to, "deny 0.0.0.0/0")}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"*.example", "a.example"} {
		if _, err := s.SetDNSName(resolved(name, 2, "203.0.113.7")); err != nil {
			t.Fatal(err)
		}
	}
	red := s.podsIn("red")
	listened := func(server string) (n int) {
		for owner, flows := range s.CompileAll() {
			for _, f := range flows {
				if slices.Contains(red, owner) && strings.Contains(f.String(), "nw_src="+server+",") {
					n++
				}
			}
		}
		return n
	}
	one, other := netip.MustParseAddrPort("192.0.2.53:53"), netip.MustParseAddrPort("192.0.2.54:5353")
	for _, step := range []struct {
		servers  []netip.AddrPort
		owners   []string
		one, two bool
	}{
		{[]netip.AddrPort{one}, red, true, false},
		{[]netip.AddrPort{one, one}, nil, true, false},
		{[]netip.AddrPort{other, one}, red, true, true},
		{[]netip.AddrPort{one, other}, nil, true, true},
		{[]netip.AddrPort{other}, red, false, true},
		{nil, red, false, false},
	} {
		change := s.FollowLookups(step.servers)
		if !slices.Equal(change.Owners, step.owners) {
			t.Errorf("%v: %q are compiled, want %q", step.servers, change.Owners, step.owners)
		}
		if a, b := listened("192.0.2.53") > 0, listened("192.0.2.54") > 0; a != step.one || b != step.two {
			t.Errorf("%v: the first is listened to: %t, the second: %t", step.servers, a, b)
		}
	}
}

// TestAPodsFirewallIsSentOnce is about pods of a namespace whose rules are in the switch: they
// bring their own flows alone.
func TestAPodsFirewallIsSentOnce(t *testing.T) {
	s := following(t)
	s.SetNetNamespace(namespace("red", 42, 4))
	if _, err := s.SetFirewall("red", 1, []*egressv1.EgressNetworkPolicy{firewallPolicy("red", "a", 0, "deny 0.0.0.0/0")}); err != nil {
		t.Fatal(err)
	}
	change := s.AddPod(podNumber(1, "red"))
	if !slices.Contains(change.Owners, "firewall red") {
		t.Fatalf("a pod brings %q, without its firewall", change.Owners)
	}
	p := NewProgrammer(s, nil, nil)
	rules := s.compile("firewall red")
	if needed := p.needed(change.Owners); !slices.Contains(needed, "firewall red") {
		t.Errorf("rules that are not in the switch are not sent: %q", needed)
	}
	p.shared["firewall red"] = &rules[0]
	if needed := p.needed(change.Owners); slices.Contains(needed, "firewall red") {
		t.Errorf("rules that are in the switch are sent again: %q", needed)
	}
	if _, err := s.SetFirewall("red", 2, []*egressv1.EgressNetworkPolicy{firewallPolicy("red", "a", 0, "deny 0.0.0.0/0")}); err != nil {
		t.Fatal(err)
	}
	if needed := p.needed(change.Owners); !slices.Contains(needed, "firewall red") {
		t.Errorf("rules that were told anew are not sent: %q", needed)
	}
}

// TestChangesThatWaitTogetherAreOneChange has two changes of one pod queued, as when both its
// firewall and how it leaves become known.
func TestChangesThatWaitTogetherAreOneChange(t *testing.T) {
	p := NewProgrammer(following(t), nil, nil)
	p.Queue(Change{Owners: []string{"pod red/a", "firewall red"}})
	p.Queue(Change{Owners: []string{"pod red/a"}})
	if needed := p.needed(p.queued.Owners); !slices.Equal(needed, []string{"firewall red", "pod red/a"}) {
		t.Errorf("sent are %q", needed)
	}
}

// TestAnIdleFirewallIsAskedAndHasNoFlows is about a namespace whose services lead outside, and
// that has no pod here.
func TestAnIdleFirewallIsAskedAndHasNoFlows(t *testing.T) {
	s := following(t)
	owner := firewallOwner("shop")
	if c := s.SetFirewallIdle("shop", true); !slices.Equal(c.Owners, []string{owner}) {
		t.Errorf("owners to compile are %q", c.Owners)
	}
	if _, err := s.SetFirewall("shop", 1, []*egressv1.EgressNetworkPolicy{firewallPolicy("shop", "a", 0, "deny 203.0.113.8/32")}); err != nil {
		t.Fatal(err)
	}
	denied, other := netip.MustParseAddrPort("203.0.113.8:80"), netip.MustParseAddrPort("203.0.113.9:80")
	for i, idle := range []bool{true, true, false, false, true} {
		s.SetFirewallIdle("shop", idle)
		if flows := len(s.CompileAll()[owner]); (flows == 0) != idle {
			t.Errorf("step %d, idle %t: %d flows", i, idle, flows)
		}
		if again := s.SetFirewallIdle("shop", idle); len(again.Owners) > 0 {
			t.Errorf("step %d: nothing has changed, and %q are to be compiled", i, again.Owners)
		}
	}
	if s.MayLeave("shop", denied, "TCP") || !s.MayLeave("shop", other, "TCP") {
		t.Error("it is not asked")
	}
}
