package policyflow

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// A term is one flow that has clauses of conjunctions: an address, a block, a
// port, both, or everything.
type term struct {
	table    uint8
	priority uint16
	src, dst netip.Prefix // The zero Prefix: any.
	ports    Ports        // Protocol 0: any.
}

// clause is one place in a conjunction that a term fills.
type clause struct {
	id    uint32
	n, of uint8
}

// owner names the thing that the term is about, and so the fragment that it
// belongs to: one that changes as a whole.
func (t term) owner() string {
	p := t.src
	if !p.IsValid() {
		p = t.dst
	}
	switch {
	case p.IsValid() && p.IsSingleIP():
		return "policy address " + p.Addr().String()
	case p.IsValid():
		return "policy block " + p.String()
	case t.ports.Mask != 0:
		return fmt.Sprintf("policy port %s %d/%#x", t.ports.Protocol, t.ports.Port, t.ports.Mask)
	case t.ports.Protocol != 0:
		return "policy port " + t.ports.Protocol.String()
	}
	return "policy any"
}

func (t term) match() openflow.Match {
	m := openflow.IP()
	if t.ports.Protocol != 0 {
		m = m.Proto(uint8(t.ports.Protocol))
	}
	if t.src.IsValid() {
		m = m.IPSrc(t.src)
	}
	if t.dst.IsValid() {
		m = m.IPDst(t.dst)
	}
	if t.ports.Mask != 0 {
		m = m.DstPortMasked(t.ports.Port, t.ports.Mask)
	}
	return m
}

// inOrder are a term's clauses in the order of its flow, which makes equal terms equal
// flows. Those that a flow has no room for are left out: only rules of NetworkPolicies
// share terms by the thousand, and those only allow, so what is left out closes.
func inOrder(clauses map[clause]int) (sorted, left []clause) {
	sorted = make([]clause, 0, len(clauses))
	for c := range clauses {
		sorted = append(sorted, c)
	}
	slices.SortFunc(sorted, func(a, b clause) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.n, b.n)) })
	room := min(len(sorted), MaxClauses)
	return sorted[:room], sorted[room:]
}

// flow is the term with its clauses.
func (t term) flow(clauses map[clause]int) openflow.Flow {
	sorted, _ := inOrder(clauses)
	f := openflow.Flow{Table: t.table, Priority: t.priority, Match: t.match(), Actions: make([]openflow.Action, 0, len(sorted))}
	for _, c := range sorted {
		f.Actions = append(f.Actions, openflow.Conjunction(c.id, c.n, c.of))
	}
	return f
}

// at is an address as a flow matches it; false if the pod network has no such
// addresses.
func at(a netip.Addr) (netip.Prefix, bool) { return netip.PrefixFrom(a, 32), a.Is4() }

// sided puts the peer's, or the subject's, addresses at the side of a packet
// that they are at.
func (c *conjunction) sided(subject bool, p netip.Prefix) term {
	t := term{table: c.table, priority: c.priority}
	if p.Bits() == 0 {
		return t // To a switch 0.0.0.0/0 is the same as any.
	}
	if subject == (c.rule.Direction == policy.Egress) {
		t.src = p
	} else {
		t.dst = p
	}
	return t
}
