package policyflow

import (
	"cmp"
	"slices"
	"strings"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// Counter is what a rule has taken, or what a pod's isolation has stopped.
type Counter struct {
	// Policy and Rule are the rule, by its place. The zero Key: a pod's isolation.
	Policy policy.Key
	Rule   int
	// Pod is the isolated one, as namespace/name; empty for a rule.
	Pod       string
	Direction policy.Direction
	// Connections are packets that began one, Packets these and those that followed.
	Connections, Packets uint64
}

func (c Counter) compare(other Counter) int {
	return cmp.Or(c.Policy.Compare(other.Policy), cmp.Compare(c.Rule, other.Rule), strings.Compare(c.Pod, other.Pod),
		cmp.Compare(c.Direction, other.Direction))
}

// Counted is a flow of the switch, whose it is and what it has taken.
type Counted struct {
	Flow    openflow.Flow
	Owner   string
	Packets uint64
}

// Counters adds up what flows have taken, in order of policy, rule, pod and direction.
// Flows that are none of policies count for nothing.
func (b *Book) Counters(flows []Counted) []Counter {
	var all []Counter
	index := map[Counter]int{} // By what a counter is of.
	for _, f := range flows {
		c, began, ok := b.counterOf(f)
		if !ok {
			continue
		}
		at, has := index[c]
		if !has {
			at = len(all)
			index[c] = at
			all = append(all, c)
		}
		all[at].Packets += f.Packets
		if began {
			all[at].Connections += f.Packets
		}
	}
	slices.SortFunc(all, Counter.compare)
	return all
}

// counterOf answers what a flow counts, and whether its packets begin connections.
func (b *Book) counterOf(f Counted) (c Counter, began, ok bool) {
	if conj := b.conjunctions[f.Owner]; conj != nil {
		c = Counter{Policy: conj.key, Rule: conj.index, Direction: conj.rule.Direction}
		begins := conj.flows(nil)[0]
		return c, f.Flow.Key() == begins.Key(), true
	}
	name, isolates := strings.CutPrefix(f.Owner, isolationOwner)
	if !isolates {
		return Counter{}, false, false
	}
	c = Counter{Pod: name, Direction: policy.Egress}
	if f.Flow.Table == b.layout.Ingress.Policies {
		c.Direction = policy.Ingress
	}
	return c, false, true
}
