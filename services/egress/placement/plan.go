package placement

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Plan decides anew about what changed, and answers the addresses whose outcome
// may have changed, in order.
func (p *Planner) Plan() []netip.Addr {
	open := p.reopen()
	for _, a := range open {
		if !p.place(a) {
			p.retry = true // a seat may have come free where it was
		}
	}
	p.admit(open)
	if p.unequal {
		p.balance()
	}
	p.unequal = false
	changed := slices.SortedFunc(maps.Keys(p.disturbed), netip.Addr.Compare)
	clear(p.disturbed)
	return changed
}

// disturb notes that an address is being looked at.
func (p *Planner) disturb(a *address) {
	if _, known := p.disturbed[a.ip]; !known {
		p.disturbed[a.ip] = Outcome{}
	}
}

// reopen settles whose the dirty addresses are, keeps those that still fit
// where they are, and answers the others, in the order in which they are to be
// placed.
func (p *Planner) reopen() []*address {
	var looked []*address
	former := map[*address]*node{}
	for ip := range p.dirty {
		a := p.addresses[ip]
		p.disturb(a)
		if a.host != nil {
			former[a] = a.host
			p.detach(a)
		}
		a.settle()
		if len(a.claims) == 0 {
			delete(p.addresses, ip)
			delete(p.unhosted, a)
			p.retry = p.retry || former[a] != nil
			continue
		}
		looked = append(looked, a)
	}
	clear(p.dirty)
	p.inOrder(looked)
	return slices.DeleteFunc(looked, func(a *address) bool {
		n := former[a]
		if n == nil {
			return false
		}
		if p.fits(a, n) && p.room(a, n) {
			p.attach(a, n)
			return true
		}
		p.retry = true
		return false
	})
}

// settle decides whose an address is: the owner keeps it, otherwise the first
// by name has it.
func (a *address) settle() {
	for _, c := range a.claims {
		if c.key == a.owner.key {
			a.owner = c
			return
		}
	}
	a.owner = claim{}
	if len(a.claims) > 0 {
		a.owner = a.claims[0]
	}
}

// inOrder sorts by urgency: manual addresses, then the first of each assignment,
// then the second of each.
func (p *Planner) inOrder(list []*address) {
	slices.SortFunc(list, func(a, b *address) int {
		return cmp.Or(
			compareBool(p.listed[b.ip] != nil, p.listed[a.ip] != nil),
			cmp.Compare(a.owner.place, b.owner.place), a.owner.key.compare(b.owner.key), a.ip.Compare(b.ip))
	})
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// place puts an address on the best node that has room, if there is one: a
// listed one on the first by name, another where the fewest are hosted, then
// where the most room is left.
func (p *Planner) place(a *address) bool {
	var best *node
	manual := p.listed[a.ip] != nil
	for _, n := range p.fitting(a) {
		if !p.room(a, n) {
			continue
		}
		if best == nil || !manual && better(n, best) {
			best = n
		}
	}
	if best == nil {
		return false
	}
	p.attach(a, best)
	return true
}

// better says whether n should take an address before m.
func better(n, m *node) bool {
	if len(n.hosted) != len(m.hosted) {
		return len(n.hosted) < len(m.hosted)
	}
	return n.Limit != NoLimit && m.Limit != NoLimit && n.Limit > m.Limit || n.Limit == NoLimit && m.Limit != NoLimit
}

// admit tries what is not hosted, by moving others if need be. Without an
// occasion nothing but the open ones is tried: nothing else can have changed.
func (p *Planner) admit(open []*address) {
	waiting := slices.DeleteFunc(open, func(a *address) bool { return a.host != nil })
	if p.retry {
		waiting = slices.Collect(maps.Keys(p.unhosted))
		p.inOrder(waiting)
	}
	p.retry = false
	search := p.newSearch()
	for _, a := range waiting {
		p.disturb(a)
		if p.place(a) || search.admit(a) {
			search = p.newSearch()
		}
	}
}
