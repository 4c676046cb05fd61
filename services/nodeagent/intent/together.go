package intent

import (
	"maps"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// Some flows are safe only beside others: those that load a pod's VNID beside those that say
// how this VNID leaves the cluster. A pod whose VNID has none leaves by its node's address,
// whatever its namespace has. What changes them both must reach the switch as one
// transaction, and nothing compiled in between may take one half of it there.
//
// So owners that such a change touches are unsettled until somebody sends them, and who
// compiles one of them compiles all, from the same moment of the state. What the switch then
// does not take is left to the next comparison, which is of everything.

// unsettle has the fragments of a change go together, with whatever else is unsettled then.
// The caller holds the lock.
func (s *State) unsettle(c Change) Change {
	for _, owner := range c.Owners {
		s.unsettled[owner] = true
	}
	return c
}

// settle is for somebody who compiles everything next.
func (s *State) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.unsettled)
}

// companions answers what has to go together with these owners, without them.
func (s *State) companions(owners []string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.missing(owners)
}

// missing is companions. The caller holds the lock.
func (s *State) missing(owners []string) []string {
	if !slices.ContainsFunc(owners, func(o string) bool { return s.unsettled[o] }) {
		return nil
	}
	rest := maps.Clone(s.unsettled)
	for _, o := range owners {
		delete(rest, o)
	}
	return slices.Collect(maps.Keys(rest))
}

// together compiles fragments as of one moment, for somebody who sends them now: they are
// settled. It is false, and nothing is, if they have got companions meanwhile.
func (s *State) together(owners []string) (flows map[string][]openflow.Flow, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.missing(owners)) > 0 {
		return nil, false
	}
	flows = make(map[string][]openflow.Flow, len(owners))
	for _, o := range owners {
		flows[o] = s.compileLocked(o)
		delete(s.unsettled, o)
	}
	return flows, true
}
