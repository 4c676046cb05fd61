package policyflow

import (
	"fmt"
	"maps"
	"slices"

	"github.com/damask-sdn/damask/internal/policy"
)

// Book is a node's pods, the policies that they list, the groups that those
// name, and the flows that follow.
type Book struct {
	layout    Layout
	groups    policy.Groups
	policies  map[policy.Key]*compiled
	waiting   map[policy.Key]policy.Policy // Newer than what is in force, and not complete.
	pods      map[string]*pod
	unsettled map[string]*pod // Those of which what is wanted is not in force.
	ids       *identities

	conjunctions map[string]*conjunction                // By name.
	users        map[policy.GroupID]map[string]struct{} // Names of conjunctions.
	targets      map[policy.Key]map[string]*pod
	ranks        map[policy.Key]int // Of each ordered policy's first rule.

	logging map[string]Logging // By namespace; none that asks for nothing.

	terms  map[term]map[clause]int
	full   map[term]struct{} // Those with more clauses than a flow has room for.
	owners map[string]map[term]struct{}
	dirty  map[string]struct{}
}

// compiled is a policy in force.
type compiled struct {
	policy policy.Policy
	rules  [][]*conjunction // For each rule.
}

// pod is a pod of the node.
type pod struct {
	wanted  policy.Pod
	inForce policy.Pod // What of it is, if open.
	open    bool
}

// New answers a book without policies and pods.
func New(l Layout) (*Book, error) {
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("lay out the tables of policies: %w", err)
	}
	return &Book{
		layout: l, groups: policy.Groups{}, policies: map[policy.Key]*compiled{}, waiting: map[policy.Key]policy.Policy{},
		pods: map[string]*pod{}, unsettled: map[string]*pod{}, ids: newIdentities(), conjunctions: map[string]*conjunction{},
		users: map[policy.GroupID]map[string]struct{}{}, targets: map[policy.Key]map[string]*pod{}, ranks: map[policy.Key]int{}, logging: map[string]Logging{},
		terms: map[term]map[clause]int{}, full: map[term]struct{}{}, owners: map[string]map[term]struct{}{}, dirty: map[string]struct{}{},
	}, nil
}

// SetGroup says who is in a group.
func (b *Book) SetGroup(id policy.GroupID, members []policy.Member) {
	now := make(map[policy.Member]struct{}, len(members))
	for _, m := range members {
		now[m] = struct{}{}
	}
	old, had := b.groups[id]
	var gone, come []policy.Member
	for m := range old {
		if _, stays := now[m]; !stays {
			gone = append(gone, m)
		}
	}
	for m := range now {
		if _, was := old[m]; !was {
			come = append(come, m)
		}
	}
	if !had {
		b.groups[id] = map[policy.Member]struct{}{}
	}
	b.MoveGroup(id, come, gone)
	if !had {
		b.settle()
	}
}

// MoveGroup says who is in a group besides, and who is no more. A group that was
// never set stays unknown.
func (b *Book) MoveGroup(id policy.GroupID, added, removed []policy.Member) {
	g, ok := b.groups[id]
	if !ok {
		return
	}
	for _, m := range removed {
		if _, in := g[m]; in {
			delete(g, m)
			b.eachUser(id, func(c *conjunction) { c.eachOfMember(id, m, b.drop(c)) })
		}
	}
	for _, m := range added {
		if _, in := g[m]; !in {
			g[m] = struct{}{}
			b.eachUser(id, func(c *conjunction) { c.eachOfMember(id, m, b.put(c)) })
		}
	}
}

// DeleteGroup forgets a group. Rules in force that still name it match nobody by
// it.
func (b *Book) DeleteGroup(id policy.GroupID) {
	b.MoveGroup(id, nil, slices.Collect(maps.Keys(b.groups[id])))
	delete(b.groups, id)
}

// SetPolicy says how a policy is. It comes into force when all groups that it
// names are there; what it was before holds until then.
//
// A policy of an ordered tier is refused when the tier would have more than
// MaxOrderedRules rules: the switch has no more priorities.
func (b *Book) SetPolicy(p policy.Policy) error {
	if n := b.orderedWith(&p); n > MaxOrderedRules {
		return fmt.Errorf("set %s: its tier would have %d rules, at most %d have an order", p.Key, n, MaxOrderedRules)
	}
	b.waiting[p.Key] = p
	b.settle()
	return nil
}

// DeletePolicy forgets a policy. No pod should list it any more.
func (b *Book) DeletePolicy(key policy.Key) {
	delete(b.waiting, key)
	if c := b.policies[key]; c != nil {
		for _, p := range b.targets[key] {
			b.dirty[isolation(p)] = struct{}{}
		}
		for i := range c.rules {
			b.uninstall(c.rules[i])
		}
		delete(b.policies, key)
		b.rank()
	}
}

// SetPod says how a pod of this node is. A new one is closed until all policies
// that it lists are in force; another list comes into force as a whole.
func (b *Book) SetPod(p policy.Pod) {
	name := p.Namespace + "/" + p.Name
	if b.pods[name] == nil {
		b.pods[name] = &pod{}
	}
	b.pods[name].wanted = p
	b.unsettled[name] = b.pods[name]
	if !b.pods[name].open {
		b.dirty[closure(b.pods[name])] = struct{}{}
	}
	b.settle()
}

// DeletePod forgets a pod.
func (b *Book) DeletePod(namespace, name string) {
	p := b.pods[namespace+"/"+name]
	if p == nil {
		return
	}
	b.aim(p, policy.Pod{Namespace: namespace, Name: name})
	delete(b.pods, namespace+"/"+name)
	delete(b.unsettled, namespace+"/"+name)
	b.dirty[closure(p)] = struct{}{}
}

// Missing answers what a pod waits for, in order: policies that are not there,
// and groups that are not. Nothing for a pod whose policies are all in force.
func (b *Book) Missing(namespace, name string) []string {
	p := b.pods[namespace+"/"+name]
	if p == nil {
		return []string{"pod " + namespace + "/" + name}
	}
	var missing []string
	for _, key := range p.wanted.Policies {
		w, waits := b.waiting[key]
		switch {
		case waits:
			for _, id := range w.Groups() {
				if _, ok := b.groups[id]; !ok {
					missing = append(missing, fmt.Sprintf("group %s of %s", id, key))
				}
			}
		case b.policies[key] == nil:
			missing = append(missing, key.String())
		}
	}
	return missing
}

// settle puts into force what has become complete.
func (b *Book) settle() {
	ranked := false
	for key, p := range b.waiting {
		if b.complete(&p) {
			delete(b.waiting, key)
			ranked = b.install(p) || ranked
		}
	}
	if ranked {
		b.rank()
	}
	for name, p := range b.unsettled {
		if p.open && samePod(p.wanted, p.inForce) {
			delete(b.unsettled, name)
			continue
		}
		if slices.ContainsFunc(p.wanted.Policies, func(k policy.Key) bool { return b.policies[k] == nil }) {
			continue
		}
		if !p.open {
			b.dirty[closure(p)] = struct{}{}
		}
		b.aim(p, p.wanted)
		p.open = true
		delete(b.unsettled, name)
	}
}

func (b *Book) complete(p *policy.Policy) bool {
	for _, id := range p.Groups() {
		if _, ok := b.groups[id]; !ok {
			return false
		}
	}
	return true
}

// aim makes what applies to a pod what another version of it says.
func (b *Book) aim(p *pod, to policy.Pod) {
	b.eachOf(&p.inForce, func(c *conjunction) { c.eachOfPod(&p.inForce, b.drop(c)) })
	name := p.wanted.Namespace + "/" + p.wanted.Name
	for _, key := range p.inForce.Policies {
		delete(b.targets[key], name)
		if len(b.targets[key]) == 0 {
			delete(b.targets, key)
		}
	}
	p.inForce = to
	for _, key := range to.Policies {
		if b.targets[key] == nil {
			b.targets[key] = map[string]*pod{}
		}
		b.targets[key][name] = p
	}
	b.eachOf(&p.inForce, func(c *conjunction) { c.eachOfPod(&p.inForce, b.put(c)) })
	b.dirty[isolation(p)] = struct{}{}
}

// eachOf visits the conjunctions of all policies that a pod lists.
func (b *Book) eachOf(p *policy.Pod, visit func(*conjunction)) {
	for _, key := range p.Policies {
		c := b.policies[key]
		if c == nil {
			continue
		}
		for i := range c.rules {
			for _, conj := range c.rules[i] {
				visit(conj)
			}
		}
	}
}

func (b *Book) eachUser(id policy.GroupID, visit func(*conjunction)) {
	for name := range b.users[id] {
		visit(b.conjunctions[name])
	}
}

func samePod(a, b policy.Pod) bool {
	return slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Ports, b.Ports) && slices.Equal(a.Policies, b.Policies)
}
