package flowsync

import (
	"context"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// A Stamp is flows that no packet takes and every lookup passes, and that are others after each change. So whatever a
// switch has cached before a change is narrower or wider than what it would cache now, in a way that it notices: it
// forgets that, and does not correct it. It is for switches that correct the wrong one of several (see decision 026).
//
// The stamp goes in the bundle of the change. Changes wait for each other then, also those of different owners.
type Stamp struct {
	// Owner owns the flows.
	Owner string
	// Flows are those of a number: in all tables the same, never with what those of another number match.
	Flows func(number uint16) []openflow.Flow
	// Number is the one of which a flow is, if of any.
	Number func(f openflow.Flow) (number uint16, of bool)
}

// stamped is what is known of the stamp.
type stamped struct {
	number uint16          // The last that was used, or seen in the switch.
	seen   []openflow.Flow // In the dump that is being read, while there is none.
}

// stamp returns the stamp's owner, nil while there is none.
func (s *Syncer) stamp() *owner {
	if s.cfg.Stamp == nil {
		return nil
	}
	return s.table.owners[s.cfg.Stamp.Owner]
}

// stamping reports whether a stamp is on its way to the switch.
func (s *Syncer) stamping() bool {
	o := s.stamp()
	if o == nil {
		return false
	}
	for _, key := range o.keys {
		if s.table.records[key].busy {
			return true
		}
	}
	return o.busy
}

// restamp makes the stamp another one. The mutex is held, and no stamp is on its way.
func (s *Syncer) restamp() *stage {
	s.stamped.number++
	return s.stampWith(s.stamped.number)
}

func (s *Syncer) stampWith(number uint16) *stage {
	st := s.table.stage([]Change{{Owner: s.cfg.Stamp.Owner, Flows: s.cfg.Stamp.Flows(number)}})
	for _, t := range st.touched {
		t.record.stamp = true
	}
	return st
}

// awaitStamp returns when no stamp is on its way. The mutex is held, but not while it waits.
func (s *Syncer) awaitStamp(ctx context.Context) error {
	for s.stamping() {
		if err := s.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// observeStamp notes a flow of a dump that may be of the stamp that an earlier process has left.
func (s *Syncer) observeStamp(f openflow.InstalledFlow) {
	if s.cfg.Stamp != nil && s.stamp() == nil && f.Cookie == Cookie(s.cfg.Stamp.Owner) && f.Permanent() {
		s.stamped.seen = append(s.stamped.seen, f.Flow.Clone())
	}
}

// adopt takes over the stamp that is in the switch, if it is a whole one: then a start changes nothing. Else the next
// change, or the repair at hand, makes one that is none of those seen.
func (s *Syncer) adopt() {
	seen := s.stamped.seen
	s.stamped.seen = nil
	if s.cfg.Stamp == nil || s.stamp() != nil {
		return
	}
	numbers := map[uint16]bool{}
	for _, f := range seen {
		if number, of := s.cfg.Stamp.Number(f); of {
			numbers[number] = true
			s.stamped.number = max(s.stamped.number, number)
		}
	}
	if flows := s.cfg.Stamp.Flows(s.stamped.number); len(numbers) != 1 || !same(flows, seen) {
		return
	}
	for _, t := range s.stampWith(s.stamped.number).touched {
		s.table.set(t.record, current)
	}
}

// same reports whether two lists have the same flows, whatever their cookies.
func same(a, b []openflow.Flow) bool {
	byKey := make(map[openflow.Key]openflow.Flow, len(a))
	for _, f := range a {
		byKey[f.Key()] = f
	}
	for _, f := range b {
		other, found := byKey[f.Key()]
		f.Cookie, other.Cookie = 0, 0
		if !found || !f.Equal(other) {
			return false
		}
	}
	return len(a) == len(b)
}

// join makes one stage of two that touch different keys and owners.
func (st *stage) join(other *stage) {
	st.touched = append(st.touched, other.touched...)
	st.owners = append(st.owners, other.owners...)
	st.keys = append(st.keys, other.keys...)
}
