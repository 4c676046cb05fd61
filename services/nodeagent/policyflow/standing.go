package policyflow

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/damask-sdn/damask/internal/policy"
)

// HasPolicy reports whether a policy is in force as it was last set.
func (b *Book) HasPolicy(key policy.Key) bool {
	_, waits := b.waiting[key]
	return !waits && b.policies[key] != nil
}

// HasPod reports whether a pod is open, and what it was last set to is in force.
func (b *Book) HasPod(namespace, name string) bool {
	p := b.pods[namespace+"/"+name]
	return p != nil && p.open && samePod(p.wanted, p.inForce)
}

// IsOpen reports whether a pod is open, be it by what was set before.
func (b *Book) IsOpen(namespace, name string) bool {
	p := b.pods[namespace+"/"+name]
	return p != nil && p.open
}

// Listed answers the policies that pods list, or listed when what is in force
// came, each once.
func (b *Book) Listed() map[policy.Key]struct{} {
	listed := map[policy.Key]struct{}{}
	for _, p := range b.pods {
		for _, key := range slices.Concat(p.wanted.Policies, p.inForce.Policies) {
			listed[key] = struct{}{}
		}
	}
	return listed
}

// Named answers the groups that policies name, in force or waiting, each once.
func (b *Book) Named() map[policy.GroupID]struct{} {
	named := map[policy.GroupID]struct{}{}
	for id := range b.users {
		named[id] = struct{}{}
	}
	for _, c := range b.policies {
		for _, id := range c.policy.Groups() {
			named[id] = struct{}{}
		}
	}
	for _, w := range b.waiting {
		for _, id := range w.Groups() {
			named[id] = struct{}{}
		}
	}
	return named
}

// FlowsOf counts the flows that a policy uses. Those that say who or what port
// are shared with other policies.
func (b *Book) FlowsOf(key policy.Key) int {
	c := b.policies[key]
	if c == nil {
		return 0
	}
	flows, terms := 0, map[term]struct{}{}
	for i := range c.rules {
		for _, conj := range c.rules[i] {
			flows += len(conj.flows(nil))
			b.each(conj, func(t term, _ uint8) { terms[t] = struct{}{} })
		}
	}
	return flows + len(terms)
}

// Crowded answers the policies with rules that let nothing pass, since too many name
// what they name, and says of each what that is.
func (b *Book) Crowded() map[policy.Key]string {
	if len(b.full) == 0 {
		return nil
	}
	keys := map[uint32]policy.Key{}
	for _, c := range b.conjunctions {
		keys[c.id] = c.key
	}
	crowded := map[policy.Key]string{}
	for t := range b.full {
		_, left := inOrder(b.terms[t])
		for _, c := range left {
			// Of several reasons the first by name, so that it says the same each time.
			why := fmt.Sprintf("%d rules on this node are about %s, %d are in force, and this policy has one of the others: it lets nothing pass",
				len(b.terms[t]), strings.TrimPrefix(t.owner(), "policy "), MaxClauses)
			if other, named := crowded[keys[c.id]]; !named || why < other {
				crowded[keys[c.id]] = why
			}
		}
	}
	return crowded
}

// Has reports whether a pod was set.
func (b *Book) Has(namespace, name string) bool { return b.pods[namespace+"/"+name] != nil }

// HasGroup reports whether it is known who is in a group.
func (b *Book) HasGroup(id policy.GroupID) bool {
	_, has := b.groups[id]
	return has
}

// Allows says whether the policies in force let a pod's connection pass. One whose
// policies are not in force has none.
func (b *Book) Allows(namespace, name string, d policy.Direction, peer netip.Addr, protocol policy.Protocol, port uint16) bool {
	p := b.pods[namespace+"/"+name]
	if p == nil || !p.open {
		return false
	}
	var applied []*policy.Policy
	for _, key := range p.inForce.Policies {
		if c := b.policies[key]; c != nil {
			applied = append(applied, &c.policy)
		}
	}
	t := policy.Traffic{Direction: d, Pod: &p.inForce, Peer: peer, Protocol: protocol, Port: port}
	return policy.Decide(t, applied, b.groups).Allowed
}
