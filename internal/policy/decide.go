package policy

import (
	"net/netip"
	"slices"
)

// Traffic is a connection seen from a pod that policies apply to.
type Traffic struct {
	Direction Direction
	// Pod is the pod asked about: the destination of ingress, the source of egress.
	Pod *Pod
	// Peer is the other side's address.
	Peer netip.Addr
	// Protocol is any IP protocol; Port is the destination's, 0 if the protocol
	// has none.
	Protocol Protocol
	Port     uint16
}

// Verdict is an answer with its reason.
type Verdict struct {
	Allowed bool
	// By is the policy that decided. The zero Key when none did, which allows.
	By Key
	// Rule is the index of the rule that decided; -1 when none did: the policy
	// isolates, and no policy has a rule that allows.
	Rule int
}

// Decide answers whether a connection may be, by one side. A connection between
// two pods needs both sides. The policies are those that apply to the pod.
// Replies are not asked about.
func Decide(t Traffic, policies []*Policy, groups Groups) Verdict {
	sorted := slices.SortedFunc(slices.Values(policies), (*Policy).Compare)
	if v, ok := ordered(t, sorted, Admin, groups); ok {
		return v
	}
	if v, ok := isolated(t, sorted, groups); ok {
		return v
	}
	if v, ok := ordered(t, sorted, Baseline, groups); ok {
		return v
	}
	return Verdict{Allowed: true, Rule: -1}
}

// ordered asks a tier whose first matching rule decides.
func ordered(t Traffic, policies []*Policy, tier Tier, groups Groups) (Verdict, bool) {
	for _, p := range policies {
		if p.Tier != tier {
			continue
		}
		for i := range p.Rules {
			r := &p.Rules[i]
			switch {
			case !r.Matches(t, groups):
			case r.Action == Pass:
				return Verdict{}, false
			default:
				return Verdict{Allowed: r.Action == Allow, By: p.Key, Rule: i}, true
			}
		}
	}
	return Verdict{}, false
}

// isolated asks tier Namespace.
func isolated(t Traffic, policies []*Policy, groups Groups) (Verdict, bool) {
	verdict, closed := Verdict{Rule: -1}, false
	for _, p := range policies {
		if !p.Isolates(t.Direction) {
			continue
		}
		if !closed {
			verdict.By, closed = p.Key, true
		}
		for i := range p.Rules {
			if p.Rules[i].Matches(t, groups) {
				return Verdict{Allowed: true, By: p.Key, Rule: i}, true
			}
		}
	}
	return verdict, closed
}

// Matches reports whether the rule is about the traffic.
func (r *Rule) Matches(t Traffic, groups Groups) bool {
	if r.Direction != t.Direction {
		return false
	}
	return r.holdsPort(t) && r.holdsPeer(t.Peer, groups) || r.holdsEndpoint(t, groups)
}

func (r *Rule) holdsPeer(a netip.Addr, groups Groups) bool {
	if r.AnyPeer {
		return true
	}
	for _, p := range r.Peers {
		if _, in := groups[p.Group][Member{Addr: a}]; in || p.Block.Holds(a) {
			return true
		}
	}
	return false
}

func (r *Rule) holdsPort(t Traffic) bool {
	if r.AnyPort {
		return true
	}
	for _, p := range r.Ports {
		if p.Holds(t.Protocol, t.Port) {
			return true
		}
	}
	if r.Direction != Ingress {
		return false
	}
	for _, n := range r.Named {
		if slices.Contains(t.Pod.Ports, NamedPort{Name: n.Name, Protocol: n.Protocol, Port: t.Port}) && n.Protocol == t.Protocol {
			return true
		}
	}
	return false
}

func (r *Rule) holdsEndpoint(t Traffic, groups Groups) bool {
	if r.Direction != Egress {
		return false
	}
	for _, e := range r.Endpoints {
		if _, in := groups[e.Group][Member{Addr: t.Peer, Port: t.Port}]; in && e.Protocol == t.Protocol && e.Holds(t.Peer) {
			return true
		}
	}
	return false
}
