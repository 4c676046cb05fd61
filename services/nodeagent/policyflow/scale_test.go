package policyflow

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/policy"
)

func nth(net byte, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{net, byte(i >> 16), byte(i >> 8), byte(i)})
}

// sized is a rule with so many targets, peers and ports.
func sized(t testing.TB, targets, peers, ports int) *Book {
	t.Helper()
	b := newBook(t)
	p, _ := one(policy.Rule{Direction: policy.Ingress, Peers: []policy.Peer{{Group: "g"}}})
	for i := range ports {
		// Every other port, so that no two of them share a mask.
		p.Rules[0].Ports = append(p.Rules[0].Ports, policy.PortRange{Protocol: policy.TCP, First: uint16(1 + 2*i), Last: uint16(1 + 2*i)})
	}
	members := make([]policy.Member, peers)
	for i := range members {
		members[i].Addr = nth(11, i)
	}
	b.SetGroup("g", members)
	if err := b.SetPolicy(p); err != nil {
		t.Fatal(err)
	}
	for i := range targets {
		b.SetPod(policy.Pod{Namespace: "shop", Name: fmt.Sprint(i), Addresses: []netip.Addr{nth(10, i)}, Policies: []policy.Key{p.Key}})
	}
	return b
}

func TestFlowsGrowAsTargetsAndPeersAndPorts(t *testing.T) {
	var table strings.Builder
	for _, n := range [][3]int{{10, 10, 10}, {100, 10, 10}, {10, 100, 10}, {10, 10, 100}, {1000, 10, 10}, {10, 1000, 10}, {10, 10, 1000}, {100, 100, 100}, {1000, 1000, 1000}, {10, 100000, 10}} {
		have := fragments{}
		have.apply(sized(t, n[0], n[1], n[2]).Drain())
		// Each target twice: where the rule applies, and where what is not allowed ends.
		got, want := len(have.flows()), 2*n[0]+n[1]+n[2]+2
		fmt.Fprintf(&table, "\n%8d targets %8d peers %8d ports: %8d flows, the product is %d", n[0], n[1], n[2], got, n[0]*n[1]*n[2])
		if got != want {
			t.Errorf("%v: got %d flows, want %d", n, got, want)
		}
	}
	t.Log(table.String())
}

func TestAnExceptionAddsItsPrefixesAndNothingElse(t *testing.T) {
	count := func(except ...netip.Prefix) int {
		b, have := newBook(t), fragments{}
		p, _ := one(policy.Rule{Direction: policy.Egress, Peers: []policy.Peer{{Block: policy.Block{CIDR: prefix("10.0.0.0/8"), Except: except}}}})
		for i := range 50 {
			p.Rules[0].Ports = append(p.Rules[0].Ports, policy.PortRange{Protocol: policy.TCP, First: uint16(1 + 2*i), Last: uint16(1 + 2*i)})
			b.SetPod(policy.Pod{Namespace: "shop", Name: fmt.Sprint(i), Addresses: []netip.Addr{nth(11, i)}, Policies: []policy.Key{p.Key}})
		}
		if err := b.SetPolicy(p); err != nil {
			t.Fatal(err)
		}
		have.apply(b.Drain())
		return len(have.flows())
	}
	plain, excepted := count(), count(prefix("10.3.5.0/24"))
	if more := excepted - plain; more != 24-8-1 {
		t.Errorf("a /24 out of a /8, with 50 targets and 50 ports: %d flows more, want %d", more, 24-8-1)
	}
}

// TestAMoveCostsOneFlow also bounds its time by that of everything, in one run.
func TestAMoveCostsOneFlow(t *testing.T) {
	start := time.Now()
	b := sized(t, 100, 20000, 100)
	b.Drain()
	whole := time.Since(start)
	const moves = 1000
	start = time.Now()
	for i := range moves {
		b.MoveGroup("g", []policy.Member{{Addr: nth(12, i)}}, []policy.Member{{Addr: nth(11, i)}})
		if changed := b.Drain(); len(changed) != 2 || len(changed[0].Flows)+len(changed[1].Flows) != 1 {
			t.Fatalf("one address for another got %+v", changed)
		}
	}
	if one := time.Since(start) / moves; whole < 200*one {
		t.Errorf("a move takes %s, everything %s: got 1:%d, want 1:200 at least", one, whole, whole/one)
	}
}

// TestAnotherPortOfARuleTouchesNoPeer: they stay in the switch as they are, and are not
// even compiled.
func TestAnotherPortOfARuleTouchesNoPeer(t *testing.T) {
	b := sized(t, 100, 1000, 10)
	b.Drain()
	p, _ := one(policy.Rule{Direction: policy.Ingress, Peers: []policy.Peer{{Group: "g"}},
		Ports: []policy.PortRange{{Protocol: policy.TCP, First: 1, Last: 1}, {Protocol: policy.UDP, First: 53, Last: 53}}})
	if err := b.SetPolicy(p); err != nil {
		t.Fatal(err)
	}
	// Nine ports went, one came, and what its pods are isolated in is said again.
	owners := b.DrainOwners()
	ports, isolations := 0, 0
	for _, owner := range owners {
		switch {
		case strings.HasPrefix(owner, "policy port "):
			ports++
		case strings.HasPrefix(owner, isolationOwner):
			isolations++
		default:
			t.Errorf("%s was touched", owner)
		}
	}
	if ports != 10 || isolations != 100 {
		t.Errorf("%d ports and %d isolations were touched, want 10 and 100", ports, isolations)
	}
}

// node is 1,000 policies of a rule each, for 100 pods, over groups of 100.
func node(tb testing.TB) (*Book, func(i, port int) policy.Policy) {
	b := newBook(tb)
	for g := range 100 {
		var members []policy.Member
		for i := range 100 {
			members = append(members, policy.Member{Addr: nth(11, g*50+i)})
		}
		b.SetGroup(policy.GroupID(fmt.Sprint("g", g)), members)
	}
	at := func(i, port int) policy.Policy {
		return policy.Policy{Key: policy.Key{Kind: "NetworkPolicy", Namespace: "n", Name: fmt.Sprint(i)}, Tier: policy.Namespace, Ingress: true,
			Rules: []policy.Rule{{Direction: policy.Ingress, Action: policy.Allow, Peers: []policy.Peer{{Group: policy.GroupID(fmt.Sprint("g", i%100))}},
				Ports: []policy.PortRange{{Protocol: policy.TCP, First: uint16(port), Last: uint16(port)}}}}}
	}
	for i := range 1000 {
		if err := b.SetPolicy(at(i, 80)); err != nil {
			tb.Fatal(err)
		}
	}
	for i := range 100 {
		p := policy.Pod{Namespace: "n", Name: fmt.Sprint(i), Addresses: []netip.Addr{nth(10, i)}}
		for j := range 10 {
			p.Policies = append(p.Policies, at(i*10+j, 0).Key)
		}
		b.SetPod(p)
	}
	return b, at
}

func BenchmarkNode(b *testing.B) {
	b.Run("1000 policies from nothing", func(b *testing.B) {
		for b.Loop() {
			book, _ := node(b)
			book.Drain()
		}
	})
	b.Run("one policy of 1000 changes", func(b *testing.B) {
		book, at := node(b)
		flows := 0
		for _, f := range book.Drain() {
			flows += len(f.Flows)
		}
		n := 0
		for b.Loop() {
			if err := book.SetPolicy(at(n%1000, 81+n%2)); err != nil {
				b.Fatal(err)
			}
			book.Drain()
			n++
		}
		b.ReportMetric(float64(flows), "flows")
	})
	b.Run("one address of a group changes", func(b *testing.B) {
		book, _ := node(b)
		book.Drain()
		n := 0
		for b.Loop() {
			book.MoveGroup("g5", []policy.Member{{Addr: nth(12, n)}}, []policy.Member{{Addr: nth(12, n-1)}})
			book.Drain()
			n++
		}
	})
}
