package placement

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// world is what a planner was told, kept by other means, and judged by brute
// force.
type world struct {
	wants    map[Key][]netip.Addr
	nodes    map[string]Node
	reserved []netip.Prefix
	order    []func(*Planner) // the calls so far
}

var (
	theReserved = []netip.Prefix{netip.MustParsePrefix("192.0.2.8/31")}
	theNetworks = []netip.Prefix{netip.MustParsePrefix("192.0.2.100/24"), netip.MustParsePrefix("192.0.2.1/28")}
	theRanges   = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/29"), netip.MustParsePrefix("192.0.2.8/29"), netip.MustParsePrefix("192.0.2.0/28"), netip.MustParsePrefix("192.0.2.16/28")}
)

func ip(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}) }

func key(n int) Key { return Key{fmt.Sprintf("ns%d", n), "default"} }

// change draws one call and makes it.
func (w *world) change(t *rapid.T, planners ...*Planner) {
	call := func(f func(*Planner)) {
		w.order = append(w.order, f)
		for _, p := range planners {
			f(p)
		}
	}
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0, 1, 2, 3:
		k := key(rapid.IntRange(0, 5).Draw(t, "namespace"))
		ips := rapid.SliceOfNDistinct(rapid.Map(rapid.IntRange(0, 20), ip), 0, 4, rapid.ID[netip.Addr]).Draw(t, "ips")
		w.wants[k] = ips
		if len(ips) == 0 {
			delete(w.wants, k)
		}
		call(func(p *Planner) { p.SetAssignment(k, ips) })
	case 4:
		name := fmt.Sprintf("n%d", rapid.IntRange(0, 4).Draw(t, "gone"))
		delete(w.nodes, name)
		call(func(p *Planner) { p.DeleteNode(name) })
	case 5:
		w.reserved = nil
		if rapid.Bool().Draw(t, "reserved") {
			w.reserved = theReserved
		}
		reserved := w.reserved
		call(func(p *Planner) { p.SetReserved(reserved) })
	default:
		name := fmt.Sprintf("n%d", rapid.IntRange(0, 4).Draw(t, "node"))
		n, known := w.nodes[name]
		if known && rapid.Bool().Draw(t, "health") {
			n.Down = !n.Down
		} else {
			n = drawNode(t)
		}
		w.nodes[name] = n
		call(func(p *Planner) { p.SetNode(name, n) })
	}
}

func drawNode(t *rapid.T) Node {
	n := Node{
		Networks: rapid.SliceOfNDistinct(rapid.SampledFrom(theNetworks), 0, 2, rapid.ID[netip.Prefix]).Draw(t, "networks"),
		Down:     rapid.IntRange(0, 4).Draw(t, "down") == 0,
		Drained:  rapid.IntRange(0, 4).Draw(t, "drained") == 0,
		Ranges:   rapid.SliceOfNDistinct(rapid.SampledFrom(theRanges), 0, 3, rapid.ID[netip.Prefix]).Draw(t, "ranges"),
		Listed:   rapid.SliceOfNDistinct(rapid.Map(rapid.IntRange(0, 20), ip), 0, 2, rapid.ID[netip.Addr]).Draw(t, "listed"),
		Limit:    rapid.IntRange(NoLimit, 4).Draw(t, "limit"),
	}
	if rapid.IntRange(0, 3).Draw(t, "own") == 0 {
		n.Addresses = []netip.Addr{ip(rapid.IntRange(0, 20).Draw(t, "address"))}
	}
	return n
}

// allowed says by the rules, read again, whether a node may host an address.
func (w *world) allowed(addr netip.Addr, name string) bool {
	n := w.nodes[name]
	lists := false
	for _, other := range w.nodes {
		lists = lists || slices.Contains(other.Listed, addr)
		if slices.Contains(other.Addresses, addr) {
			return false
		}
	}
	for _, r := range w.reserved {
		if r.Contains(addr) {
			return false
		}
	}
	meant := slices.Contains(n.Listed, addr)
	if !lists {
		for _, r := range n.Ranges {
			meant = meant || r.Contains(addr)
		}
	}
	inside := false
	for _, network := range n.Networks {
		first := network.Masked().Addr()
		last := first
		for network.Contains(last.Next()) {
			last = last.Next()
		}
		inside = inside || network.Contains(addr) && addr != first && addr != last
	}
	return meant && inside && !n.Down && !n.Drained
}

// owners answers whose each address is, as the planner says, and checks that.
func (w *world) check(t *rapid.T, p *Planner) {
	load, seats, hosted := map[string]int{}, map[string]bool{}, 0
	owner := map[netip.Addr]Key{}
	for k, ips := range w.wants {
		for _, a := range ips {
			o, known := p.Owner(a)
			if !known || !slices.Contains(w.wants[o], a) {
				t.Fatalf("%v belongs to %v, which does not want it", a, o)
			}
			owner[a] = o
			out := p.Outcome(k, a)
			if k != o {
				if out.Reason != Duplicate || out.Node != "" {
					t.Fatalf("%v is %v's, but %v has %+v", a, o, k, out)
				}
				continue
			}
			if (out.Node == "") == (out.Reason == None) {
				t.Fatalf("%v: %+v", a, out)
			}
			if out.Node == "" {
				continue
			}
			hosted++
			load[out.Node]++
			s := out.Node + "/" + k.Namespace
			if !w.allowed(a, out.Node) || seats[s] {
				t.Fatalf("%v of %v is on %s: allowed %v, sibling there %v", a, k, out.Node, w.allowed(a, out.Node), seats[s])
			}
			seats[s] = true
		}
	}
	for name, n := range load {
		if limit := w.nodes[name].Limit; limit != NoLimit && n > limit {
			t.Fatalf("%s hosts %d, its limit is %d", name, n, limit)
		}
	}
	if most := w.most(owner); hosted != most {
		t.Fatalf("%d are hosted, %d could be", hosted, most)
	}
	w.checkBalance(t, p, owner, load, seats)
}

// checkBalance looks for a node that has less than half of another that could
// give it something.
func (w *world) checkBalance(t *rapid.T, p *Planner, owner map[netip.Addr]Key, load map[string]int, seats map[string]bool) {
	for a, k := range owner {
		from := p.Outcome(k, a)
		if from.Node == "" || from.Manual {
			continue
		}
		for to, n := range w.nodes {
			short := load[from.Node] > 2*load[to] && load[from.Node] >= load[to]+2
			room := n.Limit == NoLimit || load[to] < n.Limit
			if short && room && w.allowed(a, to) && !seats[to+"/"+k.Namespace] {
				t.Fatalf("%s has %d and %s has %d, but %v stays", from.Node, load[from.Node], to, load[to], a)
			}
		}
	}
}

// most is the size of the largest allocation: a maximum flow from addresses over
// (assignment, node) to nodes, by augmenting paths over an explicit graph.
func (w *world) most(owner map[netip.Addr]Key) int {
	residual := map[string]map[string]int{}
	edge := func(from, to string, capacity int) {
		for _, v := range []string{from, to} {
			if residual[v] == nil {
				residual[v] = map[string]int{}
			}
		}
		residual[from][to] = capacity
	}
	for a, k := range owner {
		edge("source", a.String(), 1)
		for name, n := range w.nodes {
			if !w.allowed(a, name) {
				continue
			}
			s := name + "/" + k.Namespace
			edge(a.String(), s, 1)
			edge(s, name, 1)
			limit := n.Limit
			if limit == NoLimit {
				limit = 1 << 20
			}
			edge(name, "sink", limit)
		}
	}
	for flow := 0; ; flow++ {
		if !push(residual, "source", map[string]bool{}) {
			return flow
		}
	}
}

func push(residual map[string]map[string]int, at string, seen map[string]bool) bool {
	if at == "sink" {
		return true
	}
	seen[at] = true
	for to, capacity := range residual[at] {
		if capacity > 0 && !seen[to] && push(residual, to, seen) {
			residual[at][to]--
			if residual[to] == nil {
				residual[to] = map[string]int{}
			}
			residual[to][at]++
			return true
		}
	}
	return false
}

func (w *world) outcomes(p *Planner) map[string]Outcome {
	all := map[string]Outcome{}
	for k, ips := range w.wants {
		for _, a := range ips {
			all[k.Namespace+" "+a.String()] = p.Outcome(k, a)
		}
	}
	return all
}

func TestRandomHistoriesAreHostedAsTheRulesSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{wants: map[Key][]netip.Addr{}, nodes: map[string]Node{}}
		p, twin := New(), New()
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			before := w.outcomes(p)
			for range rapid.IntRange(1, 3).Draw(t, "changes") {
				w.change(t, p, twin)
			}
			changed := p.Plan()
			twin.Plan()
			w.check(t, p)
			now := w.outcomes(p)
			if other := w.outcomes(twin); !maps.Equal(now, other) {
				t.Fatalf("the same calls gave\n%v\nand\n%v", now, other)
			}
			for k, ips := range w.wants {
				for _, a := range ips {
					id := k.Namespace + " " + a.String()
					if old, known := before[id]; known && old.Node != now[id].Node && !slices.Contains(changed, a) {
						t.Fatalf("%v went from %q to %q and is not among the changes %v", id, old.Node, now[id].Node, changed)
					}
				}
			}
			if again := p.Plan(); !maps.Equal(w.outcomes(p), now) {
				t.Fatalf("planning again changed %v", again)
			}
			w.checkHeir(t, p)
		}
	})
}

// checkHeir makes another planner adopt what this one decided.
func (w *world) checkHeir(t *rapid.T, p *Planner) {
	heir := New()
	heir.SetReserved(w.reserved)
	for name, n := range w.nodes {
		heir.SetNode(name, n)
	}
	for k, ips := range w.wants {
		heir.SetAssignment(k, ips)
	}
	for k, ips := range w.wants {
		for _, a := range ips {
			if o, _ := p.Owner(a); o == k {
				heir.Adopt(k, a, p.Outcome(k, a).Node)
			}
		}
	}
	heir.Plan()
	if was, is := w.outcomes(p), w.outcomes(heir); !maps.Equal(was, is) {
		t.Fatalf("a planner that adopted\n%v\nhas\n%v", was, is)
	}
}
