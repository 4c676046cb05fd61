package policy

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"
)

// Direction is the side of a connection that a rule is about.
type Direction uint8

// Directions, seen from the pod that a policy applies to.
const (
	Ingress Direction = iota + 1 // Connections to it.
	Egress                       // Connections from it.
)

// String is "ingress" or "egress".
func (d Direction) String() string {
	switch d {
	case Ingress:
		return "ingress"
	case Egress:
		return "egress"
	}
	return "direction " + strconv.Itoa(int(d))
}

// Tier is the place of a policy in the order of evaluation: a tier is asked only
// when the ones before it left the question open.
type Tier uint8

// Tiers in the order in which they are asked.
const (
	Admin     Tier = iota + 1 // AdminNetworkPolicy, ClusterNetworkPolicy of tier Admin: rules in order, the first match decides.
	Namespace                 // NetworkPolicy: what is isolated needs a rule that allows; rules add up.
	Baseline                  // BaselineAdminNetworkPolicy, ClusterNetworkPolicy of tier Baseline: rules in order, for what no NetworkPolicy isolates.
)

// Action is what a rule says of what it matches.
type Action uint8

// Actions. A NetworkPolicy has only Allow.
const (
	Allow Action = iota + 1
	Deny
	Pass // Ask the next tier.
)

// String is "allow", "deny" or "pass".
func (a Action) String() string {
	switch a {
	case Allow:
		return "allow"
	case Deny:
		return "deny"
	case Pass:
		return "pass"
	}
	return "action " + strconv.Itoa(int(a))
}

// Key names a policy.
type Key struct {
	// Kind is Kubernetes' kind: "NetworkPolicy", "AdminNetworkPolicy" …
	Kind string
	// Namespace is empty for policies of the whole cluster.
	Namespace string
	// Name is Kubernetes' name.
	Name string
}

// String is "NetworkPolicy shop/allow-web", or "AdminNetworkPolicy no-telnet".
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Kind + " " + k.Name
	}
	return k.Kind + " " + k.Namespace + "/" + k.Name
}

// Compare orders keys by kind, namespace and name.
func (k Key) Compare(other Key) int {
	return cmp.Or(strings.Compare(k.Kind, other.Kind), strings.Compare(k.Namespace, other.Namespace),
		strings.Compare(k.Name, other.Name))
}

// GroupID names a group: the same selectors have the same id, wherever and
// whenever they are used. It is lower case letters and digits.
type GroupID string

// A Member of a group is an address; in a group that answers a named port, an
// address and the port that the name means there.
type Member struct {
	Addr netip.Addr
	Port uint16 // 0 in a group of addresses.
}

// Groups is who is in each group. A group that is missing has nobody in it.
type Groups map[GroupID]map[Member]struct{}

// Policy is a policy without its selectors. Which pods it applies to, each pod
// says itself (Pod.Policies), so that a node needs to know only its own pods.
type Policy struct {
	Key  Key
	Tier Tier
	// Priority orders the policies of tiers Admin and Baseline, the lowest
	// first; equal ones are ordered by key. Unused in tier Namespace.
	Priority int32
	// Ingress and Egress say which directions it isolates: without a rule that
	// allows, nothing passes there. Only in tier Namespace.
	Ingress, Egress bool
	// Rules in the order of evaluation, which matters in tiers Admin and
	// Baseline.
	Rules []Rule
}

// Isolates reports whether the policy, by applying to a pod, closes it in a
// direction.
func (p *Policy) Isolates(d Direction) bool {
	return p.Tier == Namespace && (d == Ingress && p.Ingress || d == Egress && p.Egress)
}

// Compare orders policies as they are evaluated.
func (p *Policy) Compare(other *Policy) int {
	return cmp.Or(cmp.Compare(p.Tier, other.Tier), cmp.Compare(p.Priority, other.Priority), p.Key.Compare(other.Key))
}

// Groups answers the groups that the policy's rules name, each once, in the
// order of their first use.
func (p *Policy) Groups() []GroupID {
	var ids []GroupID
	seen := map[GroupID]bool{}
	add := func(id GroupID) {
		if id != "" && !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	for i := range p.Rules {
		for _, peer := range p.Rules[i].Peers {
			add(peer.Group)
		}
		for _, e := range p.Rules[i].Endpoints {
			add(e.Group)
		}
	}
	return ids
}

// Pod is a pod with the policies that apply to it.
type Pod struct {
	Namespace, Name string
	// Addresses are its own, in order.
	Addresses []netip.Addr
	// Ports are what names of ports mean at it.
	Ports []NamedPort
	// Policies are the keys of the policies that apply to it, in order.
	Policies []Key
}

// NamedPort is a port that a pod gives a name to. One name may mean one port
// for each protocol.
type NamedPort struct {
	Name     string
	Protocol Protocol
	Port     uint16
}
