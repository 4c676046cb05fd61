package policyflow

import (
	"reflect"
	"slices"

	"github.com/damask-sdn/damask/internal/policy"
)

// A filled place is a term in a clause.
type filled struct {
	term   term
	clause uint8
}

// exchange puts what a rule comes down to now in the place of what it came down to.
func (b *Book) exchange(was, now []*conjunction) {
	find := func(all []*conjunction, name string) int {
		return slices.IndexFunc(all, func(c *conjunction) bool { return c.name == name })
	}
	b.uninstall(slices.DeleteFunc(slices.Clone(was), func(c *conjunction) bool { return find(now, c.name) >= 0 }))
	for _, c := range now {
		if i := find(was, c.name); i >= 0 {
			b.reform(was[i], c)
		} else {
			b.add(c)
		}
	}
}

// reform puts a conjunction in the place of another of its name, and touches the terms
// alone that are not of both: a rule's other port must cost nothing for each of its peers.
func (b *Book) reform(old, next *conjunction) {
	next.id = old.id
	b.conjunctions[next.name] = next
	for _, id := range old.groups() {
		b.disuse(id, next.name)
	}
	for _, id := range next.groups() {
		b.use(id, next.name)
	}
	if !reflect.DeepEqual(old.flows(b.tell(old)), next.flows(b.tell(next))) {
		b.dirty[next.name] = struct{}{}
	}
	if old.table != next.table || old.priority != next.priority || old.of != next.of {
		b.each(old, b.drop(old))
		b.each(next, b.put(next))
		return
	}
	more := map[filled]int{}
	b.eachOutside(old, next, func(t term, n uint8) { more[filled{t, n}]-- })
	b.eachOutside(next, old, func(t term, n uint8) { more[filled{t, n}]++ })
	put, drop := b.put(next), b.drop(old)
	for f, n := range more {
		for ; n > 0; n-- {
			put(f.term, f.clause)
		}
		for ; n < 0; n++ {
			drop(f.term, f.clause)
		}
	}
}

// eachOutside visits a conjunction's terms, without those of groups that another one, of
// the same shape, has in the same way.
func (b *Book) eachOutside(c, other *conjunction, visit func(term, uint8)) {
	b.eachOwn(c, visit)
	for _, id := range c.groups() {
		if !c.hasAs(other, id) {
			b.eachMember(c, id, visit)
		}
	}
}

// hasAs says whether two conjunctions have the same terms of a group's members.
func (c *conjunction) hasAs(other *conjunction, id policy.GroupID) bool {
	if c.named != other.named || c.peer != other.peer || c.rule.Direction != other.rule.Direction {
		return false
	}
	peers, endpoints := c.mentions(id)
	otherPeers, otherEndpoints := other.mentions(id)
	return peers == otherPeers && reflect.DeepEqual(endpoints, otherEndpoints)
}

// mentions are the parts of the rule by which a group's members fill clauses: how many
// peers, and which endpoints.
func (c *conjunction) mentions(id policy.GroupID) (peers int, endpoints []policy.Endpoints) {
	for _, p := range c.rule.Peers {
		if p.Group == id {
			peers++
		}
	}
	for _, e := range c.rule.Endpoints {
		if e.Group == id {
			endpoints = append(endpoints, e)
		}
	}
	return peers, endpoints
}
