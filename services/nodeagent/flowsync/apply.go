package flowsync

import (
	"context"
	"errors"
	"fmt"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// Apply replaces the flows of the owners named, and returns when the switch has confirmed. It sends the difference alone,
// in one bundle, and nothing where nothing differs. Applies of different owners do not wait for each other, unless there is
// a Stamp; those of the same owner happen one after another.
//
// Errors: a *ConflictError, an invalid flow, or an *openflow.RefusedError changed nothing, neither in the switch nor in
// what is desired. With ErrUnavailable, or when the context ends, the change is kept as desired: the next Apply of the
// same owner, or the next Reconcile, completes it.
func (s *Syncer) Apply(ctx context.Context, changes ...Change) error {
	if err := check(changes); err != nil {
		return err
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for s.draining || s.blocked(changes) || s.stamping() {
		if err := s.wait(ctx); err != nil {
			return fmt.Errorf("wait for an earlier change of the same owner: %w", err)
		}
	}
	if err := s.table.conflicts(changes); err != nil {
		return err
	}
	st := s.table.stage(changes)
	if s.conn == nil {
		return s.unavailable(s.attempt)
	}
	if !s.synced {
		return s.unavailable(errors.New("it has not been compared since it came up"))
	}
	return s.install(ctx, st)
}

func (s *Syncer) unavailable(cause error) error {
	if cause == nil {
		return fmt.Errorf("%w: not connected yet", ErrUnavailable)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, cause)
}

// blocked reports whether a change must wait for another that is on its way: one of the same owner, or of a flow that
// changes hands.
func (s *Syncer) blocked(changes []Change) bool {
	for _, c := range changes {
		if o := s.table.owners[c.Owner]; o != nil {
			if o.busy {
				return true
			}
			for _, key := range o.keys {
				if s.table.records[key].busy {
					return true
				}
			}
		}
		for _, f := range c.Flows {
			if r := s.table.records[f.Key()]; r != nil && (r.busy || r.owner != nil && r.owner.busy) {
				return true
			}
		}
	}
	return false
}

// install sends what was staged. The mutex is held, but not while the switch works.
func (s *Syncer) install(ctx context.Context, st *stage) error {
	if s.cfg.Stamp != nil && st.differing() > 0 {
		st.join(s.restamp())
	}
	var b batch
	s.table.load(&b, st.differing(), func(yield func(openflow.Key, *record) bool) {
		for _, t := range st.touched {
			if !yield(t.key, t.record) {
				return
			}
		}
	})
	if len(b.mods) == 0 {
		return nil
	}
	s.inFlight++
	st.hold(true)
	err := s.send(ctx, &b)
	st.hold(false)
	s.inFlight--
	if refused := (*openflow.RefusedError)(nil); errors.As(err, &refused) {
		s.table.undo(st)
	}
	for _, t := range st.touched {
		s.table.forget(t.key, t.record)
	}
	s.wake()
	return err
}

// send sends a batch and notes the outcome. The mutex is held, but not while the switch works.
func (s *Syncer) send(ctx context.Context, b *batch) error {
	conn := s.conn
	s.mutex.Unlock()
	err := conn.Bundle(ctx, b.mods)
	s.mutex.Lock()
	written, deleted := s.table.settle(b, err)
	s.written += written
	s.deleted += deleted
	if errors.Is(err, openflow.ErrClosed) {
		return s.unavailable(err)
	}
	return err
}
