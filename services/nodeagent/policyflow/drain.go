package policyflow

import (
	"maps"
	"slices"
	"strings"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// Owners of the flows that are a pod's own.
const (
	isolationOwner = "policy isolation "
	closureOwner   = "policy closed "
)

func isolation(p *pod) string { return isolationOwner + p.wanted.Namespace + "/" + p.wanted.Name }
func closure(p *pod) string   { return closureOwner + p.wanted.Namespace + "/" + p.wanted.Name }

// Drain answers the fragments that are different since the last time, in order
// of owner; one that is gone has no flows.
func (b *Book) Drain() []pipeline.Fragment {
	var fragments []pipeline.Fragment
	for _, owner := range b.DrainOwners() {
		fragments = append(fragments, pipeline.Fragment{Owner: owner, Flows: b.Flows(owner)})
	}
	return fragments
}

// DrainOwners answers the owners of those fragments, in order.
func (b *Book) DrainOwners() []string {
	owners := b.Undrained()
	clear(b.dirty)
	return owners
}

// Undrained answers what DrainOwners would, and changes nothing.
func (b *Book) Undrained() []string { return slices.Sorted(maps.Keys(b.dirty)) }

// Spoil says that these fragments may be different from what somebody has who
// has drained them.
func (b *Book) Spoil(owners []string) {
	for _, owner := range owners {
		b.dirty[owner] = struct{}{}
	}
}

// Owners answers the owners of all fragments, in order. Some may have no flows.
func (b *Book) Owners() []string {
	owners := slices.Concat(slices.Collect(maps.Keys(b.owners)), slices.Collect(maps.Keys(b.conjunctions)))
	for _, p := range b.pods {
		owners = append(owners, isolation(p), closure(p))
	}
	slices.Sort(owners)
	return owners
}

// Flows answers a fragment as it is now. It changes nothing, so that several may
// ask at once.
func (b *Book) Flows(owner string) []openflow.Flow {
	var flows []openflow.Flow
	for t := range b.owners[owner] {
		flows = append(flows, t.flow(b.terms[t]))
	}
	if c := b.conjunctions[owner]; c != nil {
		flows = append(flows, c.flows(b.tell(c))...)
	}
	if name, ok := strings.CutPrefix(owner, isolationOwner); ok && b.pods[name] != nil {
		flows = append(flows, b.isolated(b.pods[name])...)
	}
	if name, ok := strings.CutPrefix(owner, closureOwner); ok && b.pods[name] != nil && !b.pods[name].open {
		flows = append(flows, b.closed(b.pods[name])...)
	}
	slices.SortFunc(flows, func(f, g openflow.Flow) int { return f.Key().Compare(g.Key()) })
	return flows
}

// isolated drops what no rule allows to or from a pod.
func (b *Book) isolated(p *pod) []openflow.Flow {
	var flows []openflow.Flow
	for _, d := range []policy.Direction{policy.Egress, policy.Ingress} {
		isolates := func(k policy.Key) bool { return b.policies[k] != nil && b.policies[k].policy.Isolates(d) }
		if slices.ContainsFunc(p.inForce.Policies, isolates) {
			s := b.layout.stage(d)
			flows = append(flows, stopped(p.inForce, d, s.Policies, priorityIsolated, b.tellDenied(p, s.Deny))...)
		}
	}
	return flows
}

// closed drops everything to and from a pod.
func (b *Book) closed(p *pod) []openflow.Flow {
	return append(stopped(p.wanted, policy.Egress, b.layout.Egress.Admin, PriorityClosed, nil),
		stopped(p.wanted, policy.Ingress, b.layout.Ingress.Admin, PriorityClosed, nil)...)
}

func stopped(p policy.Pod, d policy.Direction, table uint8, priority uint16, actions []openflow.Action) []openflow.Flow {
	var flows []openflow.Flow
	for _, a := range p.Addresses {
		if address, ok := at(a); ok {
			t := term{table: table, priority: priority, dst: address}
			if d == policy.Egress {
				t.src, t.dst = t.dst, t.src
			}
			flows = append(flows, openflow.Flow{Table: table, Priority: priority, Match: t.match(), Actions: actions})
		}
	}
	return flows
}
