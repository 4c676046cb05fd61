package placement

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// ready is a node that may host anything of 192.0.2.0/24.
func ready(change ...func(*Node)) Node {
	n := Node{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.200/24")}, Limit: NoLimit}
	for _, f := range change {
		f(&n)
	}
	return n
}

func lists(numbers ...int) func(*Node) {
	return func(n *Node) {
		for _, number := range numbers {
			n.Listed = append(n.Listed, ip(number))
		}
	}
}

func anything(n *Node) { n.Ranges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }
func down(n *Node)     { n.Down = true }
func drained(n *Node)  { n.Drained = true }

func limit(most int) func(*Node) { return func(n *Node) { n.Limit = most } }

func TestEveryConflictIsNamed(t *testing.T) {
	a, b := key(1), key(2)
	cases := []struct {
		name  string
		nodes map[string]Node
		more  func(*Planner)
		want  Outcome
	}{
		{"no node is meant to host it", map[string]Node{"n1": ready(lists(9))}, nil,
			Outcome{Reason: NoNode, Detail: "no node lists it, and no node's range has it"}},
		{"a node lists it", map[string]Node{"n1": ready(lists(1))}, nil, Outcome{Node: "n1", Manual: true}},
		{"a node's range has it", map[string]Node{"n1": ready(anything)}, nil, Outcome{Node: "n1"}},
		{"two nodes list it", map[string]Node{"n2": ready(lists(1)), "n1": ready(lists(1))}, nil, Outcome{Node: "n1", Manual: true}},
		{"two nodes list it and the first is down", map[string]Node{"n2": ready(lists(1)), "n1": ready(lists(1), down)}, nil, Outcome{Node: "n2", Manual: true}},
		{"a list wins over ranges even when its node is down", map[string]Node{"n1": ready(lists(1), down), "n2": ready(anything)}, nil,
			Outcome{Reason: NodeDown, Detail: "these nodes do not answer: n1"}},
		{"a node that has not told its network", map[string]Node{"n1": {Listed: []netip.Addr{ip(1)}, Limit: NoLimit}}, nil,
			Outcome{Reason: NetworkUnknown, Detail: "the networks of these nodes are not known yet: n1"}},
		{"a node in another network", map[string]Node{"n1": ready(lists(1), func(n *Node) { n.Networks = []netip.Prefix{netip.MustParsePrefix("198.51.100.7/24")} })}, nil,
			Outcome{Reason: OutsideNetwork, Detail: "it is outside the networks of these nodes: n1"}},
		{"the address of another node", map[string]Node{"n1": ready(lists(1)), "n2": ready(func(n *Node) { n.Addresses = []netip.Addr{ip(1)} })}, nil,
			Outcome{Reason: NodeAddress, Detail: "it is the address of node n2"}},
		{"an address of the cluster", map[string]Node{"n1": ready(lists(1))}, func(p *Planner) { p.SetReserved([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/30")}) },
			Outcome{Reason: ClusterNetwork, Detail: "it is inside a cluster or service network"}},
		{"a drained node", map[string]Node{"n1": ready(anything, drained)}, nil, Outcome{Reason: Drained, Detail: "these nodes are drained: n1"}},
		{"the reason nearest to being hosted is told", map[string]Node{"n1": ready(anything, drained), "n2": ready(anything, down), "n3": ready(anything, drained)}, nil,
			Outcome{Reason: Drained, Detail: "these nodes are drained: n1, n3"}},
		{"another namespace had it first", map[string]Node{"n1": ready(anything)}, func(p *Planner) {
			p.SetAssignment(a, nil)
			p.SetAssignment(b, []netip.Addr{ip(1)})
			p.Plan()
			p.SetAssignment(a, []netip.Addr{ip(1)})
		}, Outcome{Reason: Duplicate, Detail: "namespace ns2 (default) has it"}},
		{"a node hosts no two of a namespace", map[string]Node{"n1": ready(anything)}, func(p *Planner) {
			p.SetAssignment(a, []netip.Addr{ip(5), ip(1)})
		}, Outcome{Reason: SameNode, Detail: "these nodes host another address of the same pods: n1"}},
		{"a full node", map[string]Node{"n1": ready(anything, limit(1))}, func(p *Planner) {
			p.SetAssignment(a, nil)
			p.SetAssignment(b, []netip.Addr{ip(5)})
			p.Plan()
			p.SetAssignment(a, []netip.Addr{ip(1)})
		}, Outcome{Reason: NoCapacity, Detail: "these nodes have as many addresses as they may: n1"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := New()
			p.SetAssignment(a, []netip.Addr{ip(1)})
			for name, n := range c.nodes {
				p.SetNode(name, n)
			}
			if c.more != nil {
				c.more(p)
			}
			p.Plan()
			if got := p.Outcome(a, ip(1)); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// loads counts what each node hosts.
func loads(p *Planner) map[string]int {
	all := map[string]int{}
	for name, n := range p.nodes {
		all[name] = len(n.hosted)
	}
	return all
}

func TestAnAddressStaysWhereItIs(t *testing.T) {
	p := New()
	p.SetNode("n1", ready(lists(1)))
	p.SetNode("n2", ready(lists(1)))
	p.SetAssignment(key(1), []netip.Addr{ip(1)})
	p.Plan()
	p.SetNode("n1", ready(lists(1), down))
	p.Plan()
	if got := p.Outcome(key(1), ip(1)); got.Node != "n2" {
		t.Fatalf("after n1 went down: %+v", got)
	}
	p.SetNode("n1", ready(lists(1)))
	if changed := p.Plan(); p.Outcome(key(1), ip(1)).Node != "n2" {
		t.Errorf("it went back when n1 returned: %v", changed)
	}
}

func TestAReturningNodeIsFilledAndNothingElseMoves(t *testing.T) {
	p := New()
	for _, name := range []string{"n1", "n2", "n3"} {
		p.SetNode(name, ready(anything))
	}
	for i := range 30 {
		p.SetAssignment(key(i), []netip.Addr{ip(i + 1)})
	}
	p.Plan()
	if got := loads(p); got["n1"] != 10 || got["n2"] != 10 || got["n3"] != 10 {
		t.Fatalf("loads are %v", got)
	}
	p.SetNode("n3", ready(anything, down))
	if changed := p.Plan(); len(changed) != 10 {
		t.Errorf("%d addresses were looked at when a node with 10 went down", len(changed))
	}
	p.SetNode("n3", ready(anything))
	changed := p.Plan()
	if got := loads(p); got["n3"] < 9 || len(changed) > 11 {
		t.Errorf("loads are %v after %d addresses moved", got, len(changed))
	}
	for range 3 { // a little less on one node is no reason to move
		for i, ips := range p.assignments {
			if p.Outcome(i, ips[0]).Node == "n3" {
				p.SetAssignment(i, nil)
				break
			}
		}
		if changed := p.Plan(); len(changed) != 1 {
			t.Errorf("%d addresses changed when one went", len(changed))
		}
	}
}

func TestEachNamespaceGetsItsFirstBeforeAnyGetsItsSecond(t *testing.T) {
	p := New()
	p.SetNode("n1", ready(anything, limit(2)))
	p.SetNode("n2", ready(anything, limit(1)))
	p.SetAssignment(key(1), []netip.Addr{ip(1), ip(2), ip(3)})
	p.SetAssignment(key(2), []netip.Addr{ip(4), ip(5)})
	p.SetAssignment(key(3), []netip.Addr{ip(6)})
	p.Plan()
	for k, first := range map[Key]int{key(1): 1, key(2): 4, key(3): 6} {
		if got := p.Outcome(k, ip(first)); got.Node == "" {
			t.Errorf("%v has nothing: %+v", k, got)
		}
	}
}

// TestCostFollowsTheChange prints what changes cost in a large cluster.
func TestCostFollowsTheChange(t *testing.T) {
	const namespaces, nodes = 10_000, 100
	p := New()
	wide := netip.MustParsePrefix("10.0.0.0/8")
	big := Node{Networks: []netip.Prefix{wide}, Ranges: []netip.Prefix{wide}, Limit: NoLimit}
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }
	for i := range nodes {
		p.SetNode(fmt.Sprintf("n%03d", i), big)
	}
	began := time.Now()
	for i := range namespaces {
		p.SetAssignment(key(i), []netip.Addr{address(i + 1)})
	}
	p.Plan()
	all := time.Since(began)
	began = time.Now()
	for i := range 1000 {
		p.SetAssignment(key(i), []netip.Addr{address(20_000 + i)})
		if changed := p.Plan(); len(changed) != 2 {
			t.Fatalf("%d addresses changed", len(changed))
		}
	}
	one := time.Since(began) / 1000
	gone := big
	gone.Down = true
	began = time.Now()
	p.SetNode("n007", gone)
	moved := p.Plan()
	failover := time.Since(began)
	began = time.Now()
	p.SetNode("n007", big)
	refilled := p.Plan()
	t.Logf("%d namespaces on %d nodes placed in %v; one change %v; a node down: %d moved in %v; back: %d moved in %v",
		namespaces, nodes, all.Round(time.Millisecond), one.Round(time.Microsecond), len(moved), failover.Round(time.Microsecond), len(refilled), time.Since(began).Round(time.Microsecond))
	if one > all/100 {
		t.Errorf("one change costs %v, placing all %v", one, all)
	}
}
