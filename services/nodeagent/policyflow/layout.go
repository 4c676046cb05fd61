package policyflow

import (
	"errors"
	"fmt"
	"slices"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// Stage is the tables of a direction, each behind the one before it. Packets
// come in at Admin; what is allowed goes on by Accept.
type Stage struct {
	Admin, Policies, Baseline uint8
	// Accept is what to do with what is allowed. At least one action; a goto
	// leads behind Baseline.
	Accept []openflow.Action
	// Deny is what to do with what is not. None drops it; a goto leads behind
	// Baseline.
	Deny []openflow.Action
}

// Tables is where the pipeline has room for policies.
func Tables() Layout {
	return Layout{
		Egress: Stage{pipeline.TableEgressAdmin, pipeline.TableEgressPolicy, pipeline.TableEgressBaseline,
			pipeline.EgressAllowed(), pipeline.EgressDenied()},
		Ingress: Stage{pipeline.TableIngressAdmin, pipeline.TableIngressPolicy, pipeline.TableIngressBaseline,
			pipeline.IngressAllowed(), pipeline.IngressDenied()},
		Log: pipeline.PolicyLogged(),
	}
}

// Layout says where the flows go.
type Layout struct {
	Egress, Ingress Stage
	// Log is what flows whose decisions are logged do first.
	Log []openflow.Action
}

// Priorities in each table. Those above PriorityClosed are free for what the
// policies must not stop: replies, the node's own probes.
const (
	// PriorityClosed drops everything of pods whose policies are not in force yet.
	PriorityClosed = 61000
	// priorityFirst is that of the first rule of a tier that has an order; each
	// further rule's is one lower.
	priorityFirst = 60000
	// priorityAllow is that of all rules of NetworkPolicies: they only allow, so
	// their order does not matter.
	priorityAllow = 200
	// priorityIsolated drops what no rule allows.
	priorityIsolated = 100
)

// MaxOrderedRules is how many rules the administrator's tier, and the baseline,
// can have on a node.
const MaxOrderedRules = priorityFirst - 1

// MaxClauses is how many rules on one node can name one address, or one port: each
// is an action of 16 bytes of its flow, and a message to the switch has 64 KiB.
// Those beyond it let nothing pass that is about it, and Crowded names their policies.
const MaxClauses = 4000

func (l Layout) stage(d policy.Direction) *Stage {
	if d == policy.Egress {
		return &l.Egress
	}
	return &l.Ingress
}

func (s *Stage) table(t policy.Tier) uint8 {
	switch t {
	case policy.Admin:
		return s.Admin
	case policy.Baseline:
		return s.Baseline
	}
	return s.Policies
}

// check reports every reason for which the layout cannot be.
func (l Layout) check() error {
	var problems []error
	for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
		s := l.stage(d)
		if len(s.Accept) == 0 {
			problems = append(problems, fmt.Errorf("%s: without an action what is allowed is dropped", d))
		}
		if s.Admin >= s.Policies || s.Policies >= s.Baseline {
			problems = append(problems, fmt.Errorf("%s: tables %d, %d, %d are not in order", d, s.Admin, s.Policies, s.Baseline))
		}
		for _, actions := range [][]openflow.Action{s.Accept, s.Deny} {
			if err := (openflow.Flow{Table: s.Baseline, Match: openflow.IP(), Actions: actions}).Check(); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", d, err))
			}
		}
	}
	return errors.Join(problems...)
}

// Base is the flows that are there without any policy: each tier leaves the
// question to the next one, and the last one allows.
func (l Layout) Base() pipeline.Fragment {
	f := pipeline.Fragment{Owner: "policy base"}
	for _, d := range []policy.Direction{policy.Egress, policy.Ingress} {
		s := l.stage(d)
		f.Flows = append(f.Flows,
			openflow.Flow{Table: s.Admin, Match: openflow.Any(), Actions: []openflow.Action{openflow.Goto(s.Policies)}},
			openflow.Flow{Table: s.Policies, Match: openflow.Any(), Actions: []openflow.Action{openflow.Goto(s.Baseline)}},
			openflow.Flow{Table: s.Baseline, Match: openflow.Any(), Actions: slices.Clone(s.Accept)})
	}
	return f
}

// outcome is what happens to a packet that a rule matches.
func (s *Stage) outcome(t policy.Tier, a policy.Action) []openflow.Action {
	switch {
	case a == policy.Allow:
		return s.Accept
	case a == policy.Pass && t == policy.Admin:
		return []openflow.Action{openflow.Goto(s.Policies)}
	case a == policy.Pass:
		return s.Accept // Behind the last tier everything is allowed.
	}
	return s.Deny
}
