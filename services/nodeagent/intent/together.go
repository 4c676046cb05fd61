package intent

import (
	"maps"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// Some flows are safe only beside others: those that load a pod's VNID beside those that say
// how this VNID leaves the cluster, and those that open a pod beside those of the policies
// that apply to it. A pod whose VNID has none leaves by its node's address, whatever its
// namespace has. What changes them both must reach the switch as one
// transaction, and nothing compiled in between may take one half of it there. So it is with
// policies among themselves: sent in parts, what opens could be in force before what closes.
//
// So owners that such a change touches, and all fragments of policies that are different, are
// unsettled until somebody sends them, and who compiles one of them compiles all, from the
// same moment of the state.

// unsettle has the fragments of a change go together, with whatever else is unsettled then.
// The caller holds the lock.
func (s *State) unsettle(c Change) Change {
	for _, owner := range c.Owners {
		s.unsettled[owner] = true
	}
	return c
}

// taken is what was unsettled before somebody took it to the switch.
type taken struct{ owners, policies []string }

// settle is for somebody who sends what is unsettled. The caller holds the lock.
func (s *State) settle() taken {
	t := taken{slices.Collect(maps.Keys(s.unsettled)), s.policies.book.DrainOwners()}
	clear(s.unsettled)
	return t
}

// giveBack undoes settle: the switch did not take it.
func (s *State) giveBack(t taken) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, owner := range t.owners {
		s.unsettled[owner] = true
	}
	s.policies.book.Spoil(t.policies)
}

// joint says whether what is unsettled has to go with these owners.
func (s *State) joint(owners []string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.jointLocked(owners)
}

func (s *State) jointLocked(owners []string) bool {
	return slices.ContainsFunc(owners, func(o string) bool { return s.unsettled[o] })
}

// companions answers what is unsettled.
func (s *State) companions() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.companionsLocked()
}

func (s *State) companionsLocked() []string {
	return slices.AppendSeq(s.policies.book.Undrained(), maps.Keys(s.unsettled))
}

// single compiles fragments as of one moment, for somebody who sends them alone. It is false
// if what is unsettled has to go with them.
func (s *State) single(owners []string) (flows map[string][]openflow.Flow, alone bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.jointLocked(owners) {
		return nil, false
	}
	return s.compileEach(owners), true
}

// together compiles fragments as of one moment, for somebody who sends them now with all that
// was unsettled: it is settled. It is false, and nothing is, if there is more meanwhile.
func (s *State) together(owners []string) (flows map[string][]openflow.Flow, took taken, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	has := make(map[string]bool, len(owners))
	for _, o := range owners {
		has[o] = true
	}
	if slices.ContainsFunc(s.companionsLocked(), func(o string) bool { return !has[o] }) {
		return nil, taken{}, false
	}
	return s.compileEach(owners), s.settle(), true
}

func (s *State) compileEach(owners []string) map[string][]openflow.Flow {
	flows := make(map[string][]openflow.Flow, len(owners))
	for _, o := range owners {
		flows[o] = s.compileLocked(o)
	}
	return flows
}

// allTogether is together with everything that should be.
func (s *State) allTogether() (flows map[string][]openflow.Flow, took taken) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.compileAll(), s.settle()
}
