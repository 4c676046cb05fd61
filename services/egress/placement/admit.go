package placement

import (
	"maps"
	"net/netip"
	"slices"
)

// search looks for a chain of moves that makes room for an address: it takes
// the place of one that can go elsewhere, if need be by a chain of its own.
// That is an augmenting path in the flow from addresses over seats to nodes; so
// an address for which none is found cannot be hosted without giving up another.
//
// What was looked at in vain stays so until something moves: searches that fail
// share what they visited.
type search struct {
	planner *Planner
	nodes   map[*node]bool    // all that the node hosts was tried
	seats   map[seat]bool     // what has the seat was tried
	chain   map[*address]bool // is about to move already
}

func (p *Planner) newSearch() *search {
	return &search{planner: p, nodes: map[*node]bool{}, seats: map[seat]bool{}, chain: map[*address]bool{}}
}

// admit hosts the address if there is a chain.
func (s *search) admit(a *address) bool {
	n := s.way(a)
	if n == nil {
		return false
	}
	s.planner.attach(a, n)
	return true
}

// yield moves a hosted address to another node, if there is a way. It stays
// attached while the way is sought, so that nobody further down the chain takes
// the room that it leaves.
func (s *search) yield(a *address) bool {
	s.chain[a] = true
	defer delete(s.chain, a)
	n := s.way(a)
	if n == nil {
		return false
	}
	s.planner.disturb(a)
	s.planner.detach(a)
	s.planner.attach(a, n)
	return true
}

// way answers a node, other than its present one, that has room for the
// address, once others were moved.
func (s *search) way(a *address) *node {
	for _, n := range s.planner.fitting(a) {
		if n == a.host {
			continue
		}
		if s.planner.room(a, n) {
			return n
		}
		if slices.ContainsFunc(s.blockers(a, n), s.yield) {
			return n
		}
	}
	return nil
}

// blockers answers what keeps the address from the node, and was not tried
// before, in order of address. One of them must go.
func (s *search) blockers(a *address, n *node) []*address {
	here := seat{a.owner.key, n}
	if sibling := s.planner.seats[here]; sibling != nil {
		if s.seats[here] || s.chain[sibling] {
			return nil
		}
		s.seats[here] = true
		return []*address{sibling}
	}
	if s.nodes[n] || !n.full() {
		return nil
	}
	s.nodes[n] = true
	list := slices.SortedFunc(maps.Keys(n.hosted), func(x, y *address) int { return netip.Addr.Compare(x.ip, y.ip) })
	return slices.DeleteFunc(list, func(x *address) bool { return s.chain[x] })
}
