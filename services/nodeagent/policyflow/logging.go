package policyflow

import (
	"slices"
	"strings"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// Logging is which decisions about pods of a namespace are told: the flows of rules
// that make them, and of isolation, do what Layout.Log says besides.
type Logging struct{ Denied, Allowed bool }

// none reports whether nothing is asked for.
func (l Logging) none() bool { return l == Logging{} }

func (l Logging) wants(a policy.Action) bool {
	return a == policy.Allow && l.Allowed || a == policy.Deny && l.Denied
}

// SetLogging says what is told of a namespace. Rules of policies of the whole cluster
// tell what any namespace of the node asks for: they have one flow for all.
func (b *Book) SetLogging(namespace string, l Logging) {
	if b.logging[namespace] == l {
		return
	}
	if b.logging[namespace] = l; l.none() {
		delete(b.logging, namespace)
	}
	for name, c := range b.conjunctions {
		if c.key.Namespace == namespace || c.key.Namespace == "" {
			b.dirty[name] = struct{}{}
		}
	}
	for _, p := range b.pods {
		if p.wanted.Namespace == namespace {
			b.dirty[isolation(p)] = struct{}{}
		}
	}
}

// tell is what a rule's flow does besides.
func (b *Book) tell(c *conjunction) []openflow.Action {
	wants := b.logging[c.key.Namespace].wants(c.rule.Action)
	if c.key.Namespace == "" {
		for _, l := range b.logging {
			wants = wants || l.wants(c.rule.Action)
		}
	}
	if !wants {
		return nil
	}
	return b.layout.Log
}

// tellDenied adds to what an isolated pod's flows do.
func (b *Book) tellDenied(p *pod, deny []openflow.Action) []openflow.Action {
	if !b.logging[p.wanted.Namespace].Denied {
		return deny
	}
	return slices.Concat(b.layout.Log, deny)
}

// Decision is what a flow decides.
type Decision struct {
	// Policy and Rule are the rule, by its place. The zero Key: policies isolate the
	// pod, and none has a rule that allows.
	Policy    policy.Key
	Rule      int
	Direction policy.Direction
	Allowed   bool
}

// DecisionOf answers what a flow of an owner in a table decides; false for one that
// decides nothing.
func (b *Book) DecisionOf(owner string, table uint8) (Decision, bool) {
	if c := b.conjunctions[owner]; c != nil {
		return Decision{c.key, c.index, c.rule.Direction, c.rule.Action == policy.Allow}, c.rule.Action != policy.Pass
	}
	if !strings.HasPrefix(owner, isolationOwner) {
		return Decision{}, false
	}
	d := Decision{Direction: policy.Egress}
	if table == b.layout.Ingress.Policies {
		d.Direction = policy.Ingress
	}
	return d, true
}

// Logs says whether a decision about a pod of a namespace is told.
func (b *Book) Logs(namespace string, d Decision) bool {
	l := b.logging[namespace]
	return d.Allowed && l.Allowed || !d.Allowed && l.Denied
}

// Deciding are the owners of flows that decide, in no order.
func (b *Book) Deciding() []string {
	owners := make([]string, 0, len(b.conjunctions)+len(b.pods))
	for name := range b.conjunctions {
		owners = append(owners, name)
	}
	for _, p := range b.pods {
		owners = append(owners, isolation(p))
	}
	return owners
}
