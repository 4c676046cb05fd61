package policyflow

import (
	"maps"
	"slices"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// Owners of the flows that are a pod's own.
func isolation(p *pod) string { return "policy isolation " + p.wanted.Namespace + "/" + p.wanted.Name }
func closure(p *pod) string   { return "policy closed " + p.wanted.Namespace + "/" + p.wanted.Name }

// Drain answers the fragments that are different since the last time, in order
// of owner; one that is gone has no flows.
func (b *Book) Drain() []pipeline.Fragment {
	flows := map[string][]openflow.Flow{}
	for owner := range b.dirty {
		flows[owner] = nil
		for t := range b.owners[owner] {
			flows[owner] = append(flows[owner], t.flow(b.terms[t]))
		}
		if c := b.conjunctions[owner]; c != nil {
			flows[owner] = append(flows[owner], c.flow())
		}
	}
	for _, p := range b.pods {
		if _, is := b.dirty[isolation(p)]; is {
			flows[isolation(p)] = b.isolated(p)
		}
		if _, is := b.dirty[closure(p)]; is && !p.open {
			flows[closure(p)] = b.closed(p)
		}
	}
	clear(b.dirty)
	fragments := make([]pipeline.Fragment, 0, len(flows))
	for _, owner := range slices.Sorted(maps.Keys(flows)) {
		slices.SortFunc(flows[owner], func(f, g openflow.Flow) int { return f.Key().Compare(g.Key()) })
		fragments = append(fragments, pipeline.Fragment{Owner: owner, Flows: flows[owner]})
	}
	return fragments
}

// isolated drops what no rule allows to or from a pod.
func (b *Book) isolated(p *pod) []openflow.Flow {
	var flows []openflow.Flow
	for _, d := range []policy.Direction{policy.Egress, policy.Ingress} {
		isolates := func(k policy.Key) bool { return b.policies[k] != nil && b.policies[k].policy.Isolates(d) }
		if slices.ContainsFunc(p.inForce.Policies, isolates) {
			flows = append(flows, dropped(p.inForce, d, b.layout.stage(d).Policies, priorityIsolated)...)
		}
	}
	return flows
}

// closed drops everything to and from a pod.
func (b *Book) closed(p *pod) []openflow.Flow {
	return append(dropped(p.wanted, policy.Egress, b.layout.Egress.Admin, PriorityClosed),
		dropped(p.wanted, policy.Ingress, b.layout.Ingress.Admin, PriorityClosed)...)
}

func dropped(p policy.Pod, d policy.Direction, table uint8, priority uint16) []openflow.Flow {
	var flows []openflow.Flow
	for _, a := range p.Addresses {
		if address, ok := at(a); ok {
			t := term{table: table, priority: priority, dst: address}
			if d == policy.Egress {
				t.src, t.dst = t.dst, t.src
			}
			flows = append(flows, openflow.Flow{Table: table, Priority: priority, Match: t.match()})
		}
	}
	return flows
}
