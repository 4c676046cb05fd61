package policyspec

import (
	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/tenancy/group"
)

// Policy is a policy of any kind, as written.
type Policy struct {
	Key  policy.Key
	Tier policy.Tier
	// Priority is 0 to 1000, the lowest first. Unused for NetworkPolicy.
	Priority int32
	// Subject is the pods that the policy applies to.
	Subject group.Pair
	// Ingress and Egress are the directions that a NetworkPolicy isolates.
	Ingress, Egress bool
	// Rules are those of ingress, then those of egress, in order; a
	// NetworkPolicy's are left out for a direction that it does not isolate.
	Rules []Rule
}

// Rule is one rule.
type Rule struct {
	// Name is the administrator's, or empty.
	Name      string
	Direction policy.Direction
	Action    policy.Action
	// AnyPeer: the rule names no peers, and so means all of them.
	AnyPeer bool
	Peers   []Peer
	// AnyPort: the rule names no ports, and so means everything.
	AnyPort bool
	Ports   []policy.PortRange
	// Named are ports by name.
	Named []policy.PortName
}

// Peer is one item of a rule's peers: pods, or a block of addresses.
type Peer struct {
	Pods  *group.Pair // nil for a block.
	Block policy.Block
}

// Violation is something about a manifest that is wrong, or that is not
// supported.
type Violation struct {
	// Field is its path: "spec.ingress[0].from[1].ipBlock.cidr".
	Field string
	// Message says what is wrong with it, as the end of a sentence that starts
	// with the field.
	Message string
}

// String is the sentence.
func (v Violation) String() string { return v.Field + " " + v.Message }
