package placement

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// balance fills nodes that have less than half of what another has and can give
// them, until the difference is no more than one. Each move makes the loads
// more equal, so it comes to an end, and a second time it finds nothing to do.
func (p *Planner) balance() {
	for p.fillOne() {
	}
}

// fillOne fills the emptiest node that is short, if there is one.
func (p *Planner) fillOne() bool {
	most := 0
	var open []*node
	for _, n := range p.nodes {
		most = max(most, len(n.hosted))
		if len(n.Ranges) > 0 && !n.Down && !n.Drained && len(n.Networks) > 0 && !n.full() {
			open = append(open, n)
		}
	}
	slices.SortFunc(open, byLoad)
	for _, n := range open {
		if !short(n, most) {
			return false // and neither are those that follow
		}
		filled := false
		for p.take(n, func(load int) bool { return short(n, load) || filled && load >= len(n.hosted)+2 }) {
			filled = true
		}
		if filled {
			return true
		}
	}
	return false
}

// short says whether a node has less than half of what another has, and so much
// less that a move does not merely exchange the two.
func short(n *node, other int) bool {
	return other > 2*len(n.hosted) && other >= len(n.hosted)+2
}

// take moves one automatic address to a node, from the one that hosts the most
// among those that may give and can.
func (p *Planner) take(to *node, mayGive func(load int) bool) bool {
	if to.full() {
		return false
	}
	givers := map[*node]bool{}
	for _, r := range to.Ranges {
		for n := range p.ranges[r] {
			givers[n] = true
		}
	}
	for r, members := range p.ranges {
		if !slices.ContainsFunc(to.Ranges, r.Overlaps) {
			continue
		}
		maps.Copy(givers, members)
	}
	list := slices.Collect(maps.Keys(givers))
	slices.SortFunc(list, func(a, b *node) int { return byLoad(b, a) })
	for _, from := range list {
		if from == to {
			continue
		}
		if !mayGive(len(from.hosted)) {
			return false
		}
		if a := p.movable(from, to); a != nil {
			p.disturb(a)
			p.detach(a)
			p.attach(a, to)
			return true
		}
	}
	return false
}

// movable answers the least urgent automatic address that can move from one
// node to another, or nil.
func (p *Planner) movable(from, to *node) *address {
	var best *address
	for a := range from.hosted {
		if a.manual || p.seats[seat{a.owner.key, to}] != nil || !p.fits(a, to) {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(best.owner.place, a.owner.place), netip.Addr.Compare(best.ip, a.ip)) < 0 {
			best = a
		}
	}
	return best
}

func byLoad(a, b *node) int {
	return cmp.Or(cmp.Compare(len(a.hosted), len(b.hosted)), strings.Compare(a.name, b.name))
}
