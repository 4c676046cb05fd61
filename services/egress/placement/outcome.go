package placement

import (
	"fmt"
	"net/netip"
	"strings"
)

// Outcome is what has become of a wish for an address.
type Outcome struct {
	// Node hosts it; empty: none does.
	Node string
	// Manual says that the node lists it; otherwise it was placed from a range.
	Manual bool
	// Reason says why nobody hosts it.
	Reason Reason
	// Detail is the reason in a sentence.
	Detail string
}

// Owner answers whose an address is. It is false when nobody wants it.
func (p *Planner) Owner(ip netip.Addr) (Key, bool) {
	a := p.addresses[ip]
	if a == nil {
		return Key{}, false
	}
	return a.owner.key, true
}

// Claims answers the assignments that want an address, by name.
func (p *Planner) Claims(ip netip.Addr) []Key {
	a := p.addresses[ip]
	if a == nil {
		return nil
	}
	keys := make([]Key, len(a.claims))
	for i, c := range a.claims {
		keys[i] = c.key
	}
	return keys
}

// Outcome answers what has become of an assignment's wish for an address.
func (p *Planner) Outcome(key Key, ip netip.Addr) Outcome {
	a := p.addresses[ip]
	switch {
	case a == nil:
		return Outcome{Reason: NoNode, Detail: "nobody wants it"}
	case a.owner.key != key:
		return Outcome{Reason: Duplicate, Detail: fmt.Sprintf("namespace %s (%s) has it", a.owner.key.Namespace, a.owner.key.Selection)}
	case a.host != nil:
		return Outcome{Node: a.host.name, Manual: a.manual}
	}
	if own := p.own[ip]; own != nil {
		return Outcome{Reason: NodeAddress, Detail: "it is the address of node " + names(byName(own))}
	}
	if r := p.impossible(a); r != None {
		return Outcome{Reason: r, Detail: "it is inside a cluster or service network"}
	}
	return p.unhostedBecause(a)
}

// unhostedBecause answers the reason that is nearest to being hosted, with the
// nodes that have it.
func (p *Planner) unhostedBecause(a *address) Outcome {
	reason := NoNode
	var because []*node
	for _, n := range p.candidates(a) {
		r := n.unfit(a.ip)
		if r == None {
			r = NoCapacity
			if p.seats[seat{a.owner.key, n}] != nil {
				r = SameNode
			}
		}
		if r > reason {
			reason, because = r, nil
		}
		if r == reason {
			because = append(because, n)
		}
	}
	return Outcome{Reason: reason, Detail: sentence(reason, names(because))}
}

func sentence(r Reason, nodes string) string {
	switch r {
	case NetworkUnknown:
		return "the networks of these nodes are not known yet: " + nodes
	case OutsideNetwork:
		return "it is outside the networks of these nodes: " + nodes
	case NodeDown:
		return "these nodes do not answer: " + nodes
	case Drained:
		return "these nodes are drained: " + nodes
	case SameNode:
		return "these nodes host another address of the same pods: " + nodes
	case NoCapacity:
		return "these nodes have as many addresses as they may: " + nodes
	default:
		return "no node lists it, and no node's range has it"
	}
}

// maxNames is how many nodes a sentence names.
const maxNames = 5

func names(list []*node) string {
	var all []string
	for i, n := range list {
		if i == maxNames {
			all = append(all, fmt.Sprintf("and %d more", len(list)-maxNames))
			break
		}
		all = append(all, n.name)
	}
	return strings.Join(all, ", ")
}
