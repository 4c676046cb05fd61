package policyflow

import (
	"reflect"
	"slices"

	"github.com/damask-sdn/damask/internal/policy"
)

// install puts a complete policy into force. What of its rules stays as it was is
// not touched. It answers whether the order of rules may be another.
func (b *Book) install(p policy.Policy) (ordered bool) {
	old := b.policies[p.Key]
	next := &compiled{policy: p, rules: make([][]*conjunction, len(p.Rules))}
	b.policies[p.Key] = next
	var was [][]*conjunction
	if old != nil {
		was = old.rules
	}
	for i := range p.Rules {
		var before []*conjunction
		if i < len(was) {
			before = was[i]
			if old.policy.Tier == p.Tier && reflect.DeepEqual(old.policy.Rules[i], p.Rules[i]) {
				next.rules[i] = before
				continue
			}
		}
		next.rules[i] = conjunctions(p.Key, i, &next.policy.Rules[i])
		for _, c := range next.rules[i] {
			stage := b.layout.stage(c.rule.Direction)
			c.table, c.priority = stage.table(p.Tier), b.priority(p, i)
			c.result = stage.outcome(p.Tier, c.rule.Action)
		}
		b.exchange(before, next.rules[i])
	}
	for i := len(p.Rules); i < len(was); i++ {
		b.uninstall(was[i])
	}
	for _, t := range b.targets[p.Key] {
		b.dirty[isolation(t)] = struct{}{}
	}
	return p.Tier != policy.Namespace || old != nil && old.policy.Tier != policy.Namespace
}

// add gives a conjunction its id and its terms.
func (b *Book) add(c *conjunction) {
	b.conjunctions[c.name] = c
	for _, id := range c.groups() {
		b.use(id, c.name)
	}
	b.renumber(b.ids.claim(c.name))
	c.id = b.ids.of(c.name)
	b.each(c, b.put(c))
	b.dirty[c.name] = struct{}{}
}

// uninstall undoes add.
func (b *Book) uninstall(all []*conjunction) {
	for _, c := range all {
		b.each(c, b.drop(c))
		b.dirty[c.name] = struct{}{}
		delete(b.conjunctions, c.name)
		for _, id := range c.groups() {
			b.disuse(id, c.name)
		}
		b.renumber(b.ids.release(c.name))
	}
}

// use notes that a conjunction names a group, disuse that it does not.
func (b *Book) use(id policy.GroupID, name string) {
	if b.users[id] == nil {
		b.users[id] = map[string]struct{}{}
	}
	b.users[id][name] = struct{}{}
}

func (b *Book) disuse(id policy.GroupID, name string) {
	delete(b.users[id], name)
	if len(b.users[id]) == 0 {
		delete(b.users, id)
	}
}

// renumber gives conjunctions the ids that they have now.
func (b *Book) renumber(names []string) {
	for _, name := range names {
		if c := b.conjunctions[name]; c != nil && c.id != b.ids.of(name) {
			b.change(c, func() { c.id = b.ids.of(name) })
		}
	}
}

// change takes a conjunction out, changes it, and puts it in again.
func (b *Book) change(c *conjunction, change func()) {
	b.each(c, b.drop(c))
	change()
	b.each(c, b.put(c))
	b.dirty[c.name] = struct{}{}
}

// each visits all terms of a conjunction.
func (b *Book) each(c *conjunction, visit func(term, uint8)) {
	b.eachOwn(c, visit)
	for _, id := range c.groups() {
		b.eachMember(c, id, visit)
	}
}

// eachOwn visits the terms that no group brings.
func (b *Book) eachOwn(c *conjunction, visit func(term, uint8)) {
	c.eachFixed(visit)
	for _, p := range b.targets[c.key] {
		c.eachOfPod(&p.inForce, visit)
	}
}

// eachMember visits the terms of a group's members.
func (b *Book) eachMember(c *conjunction, id policy.GroupID, visit func(term, uint8)) {
	for m := range b.groups[id] {
		c.eachOfMember(id, m, visit)
	}
}

// put fills a clause of a conjunction with a term; one that several members
// bring is there as long as one of them is.
func (b *Book) put(c *conjunction) func(term, uint8) {
	return func(t term, n uint8) {
		if b.terms[t] == nil {
			b.terms[t] = map[clause]int{}
			owner := t.owner()
			if b.owners[owner] == nil {
				b.owners[owner] = map[term]struct{}{}
			}
			b.owners[owner][t] = struct{}{}
		}
		at := clause{c.id, n, c.of}
		if b.terms[t][at]++; b.terms[t][at] == 1 {
			b.dirty[t.owner()] = struct{}{}
			if len(b.terms[t]) > MaxClauses {
				b.full[t] = struct{}{}
			}
		}
	}
}

// drop undoes put.
func (b *Book) drop(c *conjunction) func(term, uint8) {
	return func(t term, n uint8) {
		at := clause{c.id, n, c.of}
		if b.terms[t][at]--; b.terms[t][at] > 0 {
			return
		}
		owner := t.owner()
		b.dirty[owner] = struct{}{}
		if delete(b.terms[t], at); len(b.terms[t]) <= MaxClauses {
			delete(b.full, t)
		}
		if len(b.terms[t]) > 0 {
			return
		}
		delete(b.terms, t)
		delete(b.owners[owner], t)
		if len(b.owners[owner]) == 0 {
			delete(b.owners, owner)
		}
	}
}

// priority is that of a rule of a policy.
func (b *Book) priority(p policy.Policy, rule int) uint16 {
	if p.Tier == policy.Namespace {
		return priorityAllow
	}
	return uint16(priorityFirst - b.ranks[p.Key] - rule)
}

// orderedWith counts the rules that the policy's tier has with it, if that tier
// has an order.
func (b *Book) orderedWith(p *policy.Policy) int {
	if p.Tier == policy.Namespace {
		return 0
	}
	n := len(p.Rules)
	for key, c := range b.policies {
		if _, waits := b.waiting[key]; !waits && key != p.Key && c.policy.Tier == p.Tier {
			n += len(c.rules)
		}
	}
	for key, w := range b.waiting {
		// Both what is in force and what comes: each is there for a while.
		if key != p.Key && w.Tier == p.Tier {
			n += len(w.Rules)
		}
		if c := b.policies[key]; c != nil && c.policy.Tier == p.Tier {
			n += len(c.rules)
		}
	}
	return n
}

// rank gives the rules of ordered tiers their priorities: one each, in the order
// of evaluation, whatever came first.
func (b *Book) rank() {
	var ordered []*compiled
	for _, c := range b.policies {
		if c.policy.Tier != policy.Namespace {
			ordered = append(ordered, c)
		}
	}
	slices.SortFunc(ordered, func(a, c *compiled) int { return a.policy.Compare(&c.policy) })
	clear(b.ranks)
	next, tier := 0, policy.Admin
	for _, c := range ordered {
		if c.policy.Tier != tier {
			next, tier = 0, c.policy.Tier
		}
		b.ranks[c.policy.Key] = next
		next += len(c.rules)
		for i := range c.rules {
			for _, conj := range c.rules[i] {
				if now := b.priority(c.policy, i); now != conj.priority {
					b.change(conj, func() { conj.priority = now })
				}
			}
		}
	}
}
