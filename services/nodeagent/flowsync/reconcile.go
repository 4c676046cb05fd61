package flowsync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// repairRounds is how often Reconcile tries again without the flows that the switch refused.
const repairRounds = 8

// A Diff is what Reconcile changed in the switch, in the order of Key.Compare, but for its Stamp.
type Diff struct {
	Added    []openflow.Flow // Were missing.
	Modified []openflow.Flow // As they are now; had other actions, another cookie or a timeout.
	Deleted  []openflow.Flow // Were nobody's. Without actions.
}

// Empty reports whether nothing differed.
func (d Diff) Empty() bool { return len(d.Added)+len(d.Modified)+len(d.Deleted) == 0 }

// Reconcile compares all flows of the switch with what is desired and repairs the difference in one bundle, so that no
// packet sees anything in between. It sends nothing when nothing differs.
//
// A want that is not nil becomes the desired state first, all of it: owners that are not in it lose their flows. With a
// nil want the desired state is what it was, which is the way for audits, as Applies can go on meanwhile and none of them
// is lost. The first Reconcile needs a want: nobody may take flows away who does not know yet what should be there.
//
// Flows that the switch refuses do not keep the others from being repaired: then the error is an *openflow.RefusedError
// that names them, and the Diff says what was done nevertheless. With a *ConflictError or an invalid flow nothing has
// changed. With ErrUnavailable the want has become the desired state, for the next Reconcile.
func (s *Syncer) Reconcile(ctx context.Context, want map[string][]openflow.Flow) (Diff, error) {
	select {
	case <-s.auditing:
	case <-ctx.Done():
		return Diff{}, fmt.Errorf("wait for another comparison: %w", context.Cause(ctx))
	}
	defer func() { s.auditing <- struct{}{} }()
	if err := s.replace(ctx, want); err != nil {
		return Diff{}, err
	}
	conn, err := s.connection(ctx)
	if err != nil {
		return Diff{}, err
	}
	unbound, err := s.meters(ctx, conn)
	if err != nil {
		return Diff{}, err
	}
	if err := s.compare(ctx, conn, unbound); err != nil {
		return Diff{}, err
	}
	return s.repair(ctx, conn)
}

// replace makes want the desired state. Applies that are on their way end first, and new ones wait: one that is refused
// undoes its staging, and must not undo this one.
func (s *Syncer) replace(ctx context.Context, want map[string][]openflow.Flow) error {
	if want == nil {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		if !s.known {
			return errors.New("nothing has been said yet of what the switch should have")
		}
		return nil
	}
	changes := make([]Change, 0, len(want))
	for _, name := range slices.Sorted(maps.Keys(want)) {
		changes = append(changes, Change{Owner: name, Flows: want[name]})
	}
	if err := check(changes); err != nil {
		return err
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.draining = true
	defer func() {
		s.draining = false
		s.wake()
	}()
	for s.inFlight > 0 {
		if err := s.wait(ctx); err != nil {
			return fmt.Errorf("wait for changes that are on their way: %w", err)
		}
	}
	for name, o := range s.table.owners {
		if _, wanted := want[name]; !wanted && o != s.stamp() {
			changes = append(changes, Change{Owner: name})
		}
	}
	if err := s.table.conflicts(changes); err != nil {
		return err
	}
	s.table.stage(changes)
	s.known = true
	return nil
}

// meters brings the switch's meters to what they should be, and says whether one was missing: flows that name it are not
// bound to it then.
func (s *Syncer) meters(ctx context.Context, conn *openflow.Conn) (unbound bool, err error) {
	unbound, err = conn.KeepMeters(ctx, s.cfg.Meters)
	switch {
	case errors.Is(err, openflow.ErrNoMeters):
		return false, nil // HasMeters tells whoever would want flows that need them.
	case errors.Is(err, openflow.ErrClosed):
		return false, s.unavailable(err)
	}
	return unbound, err
}

// HasMeters says whether the switch can have meters. Flows that send copies of packets must not be wanted where there are
// none: nothing would bound the copies. It waits for the connection as Reconcile does.
func (s *Syncer) HasMeters(ctx context.Context) (bool, error) {
	conn, err := s.connection(ctx)
	if err != nil {
		return false, err
	}
	return conn.HasMeters(ctx)
}

// compare reads all flows of the switch and notes how each stands to what is wanted. Flows that send copies differ if they
// are not bound to their meters.
func (s *Syncer) compare(ctx context.Context, conn *openflow.Conn, unbound bool) error {
	s.mutex.Lock()
	t := &s.table
	for !s.synced && s.inFlight > 0 { // They are of an older connection, and would speak of an older switch.
		if err := s.wait(ctx); err != nil {
			s.mutex.Unlock()
			return fmt.Errorf("wait for changes that are on their way: %w", err)
		}
	}
	t.audit++
	t.dumping = true
	for _, r := range t.records {
		if r.busy {
			r.touched = t.audit
		}
	}
	s.mutex.Unlock()

	err := conn.EachFlow(ctx, func(f openflow.InstalledFlow) {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		s.observeStamp(f)
		t.observe(f, unbound && f.Copies())
	})

	s.mutex.Lock()
	defer s.mutex.Unlock()
	t.dumping = false
	for key, r := range t.records {
		if err == nil && r.seen != t.audit && r.touched != t.audit && !r.busy {
			t.set(r, absent)
		}
		t.forget(key, r)
	}
	switch {
	case errors.Is(err, openflow.ErrClosed):
		return s.unavailable(err)
	case err != nil:
		return err
	case s.conn != conn:
		return s.unavailable(errors.New("the connection was lost meanwhile"))
	}
	s.adopt()
	s.synced = true
	return nil
}

// observe notes one flow of a dump, which differs in any case if it is spoilt. What an Apply has changed since the dump began is known better than the dump knows it.
func (t *table) observe(f openflow.InstalledFlow, spoilt bool) {
	r := t.records[f.Key()]
	if r == nil {
		r = &record{}
		t.records[f.Flow.Clone().Key()] = r
	}
	r.seen = t.audit
	if r.busy || r.touched == t.audit {
		return
	}
	if !spoilt && r.owner != nil && r.owner.cookie == f.Cookie && f.Permanent() && slices.Equal(r.actions, f.Actions) {
		t.set(r, current)
	} else {
		t.set(r, differs)
	}
}

// repair sends what the comparison found, and again without what the switch refuses of it.
func (s *Syncer) repair(ctx context.Context, conn *openflow.Conn) (Diff, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if err := s.awaitStamp(ctx); err != nil {
		return Diff{}, fmt.Errorf("wait for changes that are on their way: %w", err)
	}
	if s.cfg.Stamp != nil && (s.table.differing() > 0 || s.stamp() == nil) {
		s.restamp()
	}
	var b batch
	s.table.load(&b, s.table.differing(), maps.All(s.table.records))
	sortBatch(&b)
	var refusals []openflow.Refusal
	for round := 0; ; round++ {
		if len(b.mods) == 0 {
			return Diff{}, refusal(refusals)
		}
		diff := diffOf(&b)
		var err error
		if s.conn != conn {
			err = s.unavailable(errors.New("the connection was lost meanwhile"))
			s.table.settle(&b, err)
		} else {
			err = s.send(ctx, &b)
		}
		s.wake()
		if err == nil {
			return diff, refusal(refusals)
		}
		var refused *openflow.RefusedError
		if !errors.As(err, &refused) || len(refused.Refusals) == 0 || round == repairRounds {
			return Diff{}, err
		}
		refusals = append(refusals, refused.Refusals...)
		s.retain(&b, refused.Refusals)
	}
}

// retain makes a batch of what was not refused and is still to be done.
func (s *Syncer) retain(b *batch, refusals []openflow.Refusal) {
	refused := make(map[int]bool, len(refusals))
	for _, r := range refusals {
		refused[r.Index] = true
	}
	old := *b
	*b = batch{}
	s.table.load(b, len(old.mods), func(yield func(openflow.Key, *record) bool) {
		for i, r := range old.records {
			if !refused[i] && !yield(old.mods[i].Flow.Key(), r) {
				return
			}
		}
	})
}

func refusal(refusals []openflow.Refusal) error {
	if refusals == nil {
		return nil
	}
	return &openflow.RefusedError{Refusals: refusals}
}

// diffOf says what a batch changes.
func diffOf(b *batch) Diff {
	var d Diff
	if n := len(b.mods); n > 0 && b.records[0].standing == absent {
		d.Added = make([]openflow.Flow, 0, n) // All of them, at the first comparison with an empty switch.
	}
	for i, m := range b.mods {
		switch {
		case b.records[i].stamp:
		case m.Command == openflow.DeleteStrict:
			d.Deleted = append(d.Deleted, m.Flow)
		case b.records[i].standing == absent:
			d.Added = append(d.Added, m.Flow)
		default:
			d.Modified = append(d.Modified, m.Flow)
		}
	}
	return d
}
