package intent

import (
	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
	"github.com/damask-sdn/damask/services/nodeagent/policyflow"
)

// PolicyCounters answers what policies have let pass and stopped, by what the flows of a
// dump have taken.
func (s *State) PolicyCounters(dump []flowsync.InstalledFlow) []policyflow.Counter {
	flows := make([]policyflow.Counted, 0, len(dump))
	for _, f := range dump {
		flows = append(flows, policyflow.Counted{Flow: f.Flow, Owner: f.Owner, Packets: f.Packets})
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.policies.book.Counters(flows)
}
