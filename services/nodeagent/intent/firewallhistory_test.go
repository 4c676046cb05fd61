package intent

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/egressmark"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

var (
	firewalled      = []string{"red", "blue", "green"}
	firewallTargets = []string{"203.0.113.7", "203.0.113.8", "198.51.100.1"}
)

// TestFirewallHistories changes everything in any order, and asks after each change
// whether what passes is what should, whether the change names what it touches, and whether
// an agent that starts then makes the same flows.
func TestFirewallHistories(t *testing.T) {
	started := 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		m := newFirewallModel()
		s := m.start(t, r)
		for step := range 60 {
			before := s.CompileAll()
			change, err := m.step(r, s, uint64(step))
			if err != nil {
				t.Fatal(err)
			}
			where := fmt.Sprintf("seed %d, step %d", seed, step)
			after := s.CompileAll()
			for owner, flows := range after {
				if !slices.EqualFunc(flows, before[owner], openflow.Flow.Equal) && !slices.Contains(change.Owners, owner) {
					t.Fatalf("%s: %s has changed, and the change names %q", where, owner, change.Owners)
				}
			}
			for owner := range before {
				if after[owner] == nil && !slices.Contains(change.Owners, owner) {
					t.Fatalf("%s: %s is gone, and the change names %q", where, owner, change.Owners)
				}
			}
			m.judge(t, where, s)
			// Rules that wait for a name leave the earlier ones in force, of which an agent
			// that starts knows nothing.
			if step%4 == 0 && len(m.waiting) == 0 {
				started++
				installed(t, where+", after a start", after, m.start(t, r).CompileAll())
			}
		}
	}
	if started < 300 {
		t.Errorf("the histories had %d starts", started)
	}
}

func newFirewallModel() *firewallModel {
	m := &firewallModel{
		inForce: map[string][]*egressv1.EgressRule{}, waiting: map[string][]*egressv1.EgressRule{}, names: map[string][]string{},
		policies: map[string][]*egressv1.EgressNetworkPolicy{}, vnids: map[string]uint32{},
	}
	for i, ns := range firewalled {
		m.vnids[ns] = drawnVNIDs[i]
	}
	return m
}

// start is an agent that starts: it is told all that there is, in any order.
func (m *firewallModel) start(t *testing.T, r *rand.Rand) *State {
	t.Helper()
	s := following(t)
	s.FollowEgress(egressmark.Reserved{})
	server := netip.MustParseAddrPort("192.0.2.53:53")
	s.FollowLookups([]netip.AddrPort{server, netip.MustParseAddrPort("172.30.0.10:53"), server})
	var steps []func() error
	for i, ns := range firewalled {
		steps = append(steps,
			func() error { s.SetNetNamespace(namespace(ns, m.vnids[ns], 4)); return nil },
			func() error { _, err := s.SetEgress(ns, 1, nil); return err },
			func() error { s.AddPod(podNumber(i+1, ns)); return nil })
		if policies, known := m.policies[ns]; known {
			steps = append(steps, func() error { _, err := s.SetFirewall(ns, 1, policies); return err })
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.names)) {
		steps = append(steps, func() error { _, err := s.SetDNSName(resolved(name, 1, m.names[name]...)); return err })
	}
	if m.hosted != nil {
		steps = append(steps, func() error { _, err := s.SetEgressHosting(1, m.hosted); return err })
	}
	for _, i := range r.Perm(len(steps)) {
		if err := steps[i](); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// step changes the model and the state alike.
func (m *firewallModel) step(r *rand.Rand, s *State, revision uint64) (Change, error) {
	names := []string{"a.example", "b.example", "*.example"}
	rules := []string{"allow 203.0.113.0/24", "deny 203.0.113.0/24", "deny 0.0.0.0/0", "allow 203.0.113.7/32", "allow a.example", "deny a.example", "deny b.example",
		"allow *.example", "deny 0.0.0.0/32"}
	ns := firewalled[r.IntN(len(firewalled))]
	switch r.IntN(6) {
	case 0, 1:
		var policies []*egressv1.EgressNetworkPolicy
		for i := range r.IntN(3) {
			p := firewallPolicy(ns, fmt.Sprint("p", i), uint32(r.IntN(2)))
			for range r.IntN(4) {
				p.Rules = append(p.Rules, rule(rules[r.IntN(len(rules))]))
			}
			policies = append(policies, p)
		}
		m.set(ns, policies)
		return s.SetFirewall(ns, revision, policies)
	case 2:
		name := names[r.IntN(len(names))]
		addresses := slices.DeleteFunc(slices.Clone(firewallTargets), func(string) bool { return r.IntN(2) == 0 })
		m.tell(name, addresses)
		return s.SetDNSName(resolved(name, revision, addresses...))
	case 3:
		m.vnids[ns] = anyVNID(r) // Joined, or apart.
		return s.SetNetNamespace(namespace(ns, m.vnids[ns], revision+5)), nil
	case 4:
		m.forget(ns)
		return s.ForgetFirewall(ns), nil
	}
	m.hosted = []*egressv1.HostedAddress{{Ip: "192.0.2.9", Namespace: ns, Selection: "default", Netid: m.vnids[ns]}}
	return s.SetEgressHosting(revision, m.hosted)
}

// judge asks what passes, by the flows and by what services are told.
func (m *firewallModel) judge(t *testing.T, where string, s *State) {
	t.Helper()
	flows := everything(s)
	for i, ns := range firewalled {
		pod := podNumber(i+1, ns).IP
		if got, want := copiesTo(flows, pod), m.copies(ns); got != want {
			t.Fatalf("%s: answers of %d servers to a pod of %s are copied, want %d", where, got, ns, want)
		}
		for _, to := range firewallTargets {
			addr := netip.MustParseAddr(to)
			want := m.passes(ns, addr)
			if got := passes(flows, pod, addr); got != want {
				t.Fatalf("%s: %s to %s passes: %t, want %t", where, ns, to, got, want)
			}
			if got := s.MayLeave(ns, netip.AddrPortFrom(addr, 80), "TCP"); got != want {
				t.Fatalf("%s: %s to %s may leave: %t, want %t", where, ns, to, got, want)
			}
		}
	}
}

// copiesTo counts the servers whose answers to a pod are copied.
func copiesTo(flows []openflow.Flow, pod netip.Addr) int {
	n := 0
	for _, f := range flows {
		if f.Copies() && f.Table == 70 && strings.Contains(f.String(), "nw_dst="+pod.String()+",") {
			n++
		}
	}
	return n
}

// copies is what copiesTo should count: both servers, for a wildcard that is in force.
func (m *firewallModel) copies(ns string) int {
	if slices.ContainsFunc(m.inForce[ns], func(r *egressv1.EgressRule) bool { return strings.HasPrefix(r.GetDnsName(), "*.") }) {
		return 2
	}
	return 0
}

// firewallModel is what should pass: rules that are in force, those that wait, and names;
// and what was told last.
type firewallModel struct {
	inForce, waiting map[string][]*egressv1.EgressRule
	names            map[string][]string
	policies         map[string][]*egressv1.EgressNetworkPolicy
	vnids            map[string]uint32
	hosted           []*egressv1.HostedAddress
}

func (m *firewallModel) set(ns string, policies []*egressv1.EgressNetworkPolicy) {
	m.policies[ns] = policies
	m.waiting[ns] = []*egressv1.EgressRule{}
	for order := range uint32(2) {
		for _, p := range policies { // They are made in the order of their names.
			if p.GetOrder() == order {
				m.waiting[ns] = append(m.waiting[ns], p.GetRules()...)
			}
		}
	}
	m.promote()
}

func (m *firewallModel) tell(name string, addresses []string) {
	m.names[name] = addresses
	m.promote()
}

func (m *firewallModel) promote() {
	for ns, rules := range m.waiting {
		unknown := slices.ContainsFunc(rules, func(r *egressv1.EgressRule) bool {
			_, known := m.names[r.GetDnsName()]
			return r.GetDnsName() != "" && !known
		})
		if !unknown {
			m.inForce[ns] = rules
			delete(m.waiting, ns)
		}
	}
}

func (m *firewallModel) forget(ns string) {
	delete(m.inForce, ns)
	delete(m.waiting, ns)
	delete(m.policies, ns)
}

func (m *firewallModel) passes(ns string, to netip.Addr) bool {
	rules, known := m.inForce[ns]
	if !known {
		return false
	}
	for _, r := range rules {
		hit := slices.Contains(m.names[r.GetDnsName()], to.String())
		if r.GetCidrSelector() != "" {
			hit = netip.MustParsePrefix(r.GetCidrSelector()).Contains(to)
		}
		if hit {
			return r.GetType() == egressv1.RuleType_RULE_TYPE_ALLOW
		}
	}
	return true
}
