package bucket

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// groupPatience bounds the commit of a group whose members set no deadline.
const groupPatience = time.Minute

// groups collects the transactions that wait for the next common commit.
//
// A batch of several keys costs the server of a bucket without replicas some
// file work and disk syncs, which is ten to a hundred times a single put, but
// hardly depends on the number of keys. So whatever waits while one batch is
// under way goes into the next, run one after the other on one snapshot, each
// seeing what those before it wrote. That also spares the transactions of one
// process conflicts among themselves.
type groups struct {
	mu      sync.Mutex
	waiting []*member
	wake    chan struct{}

	// contended: a group met a conflict and tries again.
	contended atomic.Bool
}

// member is one transaction of a group.
type member struct {
	fn       func(tx *Tx) error
	gone     func() bool // its caller no longer waits
	deadline time.Time
	sent     atomic.Bool // the commit is, or may be, on its way

	answered chan struct{} // closed after what follows is set
	sequence uint64
	err      error
}

// inGroup runs the transaction as a member of the next group.
func (b *Bucket) inGroup(ctx context.Context, fn func(tx *Tx) error) (uint64, error) {
	deadline, limited := ctx.Deadline()
	if !limited {
		deadline = time.Now().Add(groupPatience)
	}
	m := &member{
		fn: fn, deadline: deadline, answered: make(chan struct{}),
		gone: func() bool { return ctx.Err() != nil },
	}
	b.groups.mu.Lock()
	b.groups.waiting = append(b.groups.waiting, m)
	b.groups.mu.Unlock()
	select {
	case b.groups.wake <- struct{}{}:
	default:
	}
	select {
	case <-m.answered:
		return m.sequence, m.err
	case <-ctx.Done():
	}
	if m.sent.Load() {
		return 0, fmt.Errorf("%w: %w", ErrOutcomeUnknown, context.Cause(ctx))
	}
	return 0, fmt.Errorf("wait for a turn to commit: %w", context.Cause(ctx))
}

// commitGroups commits groups until ctx ends.
func (b *Bucket) commitGroups(ctx context.Context) {
	for {
		select {
		case <-b.groups.wake:
		case <-ctx.Done():
			return
		}
		b.groups.mu.Lock()
		members := b.groups.waiting
		b.groups.waiting = nil
		b.groups.mu.Unlock()
		for len(members) > 0 && ctx.Err() == nil {
			members = b.commitGroup(ctx, members)
		}
	}
}

// commitGroup commits as many of the members as fit one commit, answers them,
// and hands back the others.
func (b *Bucket) commitGroup(ctx context.Context, members []*member) (left []*member) {
	defer b.groups.contended.Store(false)
	for n := 0; ; n++ {
		var g group
		g, left = b.stage(members)
		if len(g.members) == 0 || !b.attempt(ctx, g, n) {
			return left
		}
		members = append(g.members, left...)
	}
}

// group is one attempt of a common commit.
type group struct {
	tx      *Tx
	members []*member
	results []error // of each member's transaction
}

// stage runs members one after the other in one Tx, as far as one commit holds
// their writes. Those whose callers left are dropped.
func (b *Bucket) stage(members []*member) (g group, left []*member) {
	g.tx = newTx(b.view.snapshot())
	for i, m := range members {
		if m.gone() {
			continue
		}
		before := len(g.tx.journal)
		err := g.tx.run(m.fn)
		if len(g.tx.writes) > MaxWrites && len(g.members) > 0 {
			g.tx.rollback(before)
			return g, members[i:]
		}
		if err != nil {
			g.tx.rollback(before)
		}
		m.sent.Store(true)
		g.members = append(g.members, m)
		g.results = append(g.results, err)
	}
	return g, nil
}

// attempt commits a group and answers its members, or says that they must run
// again on the state that the view shows now.
func (b *Bucket) attempt(ctx context.Context, g group, n int) (again bool) {
	if len(g.tx.writes) == 0 {
		g.answer(g.tx.Sequence(), nil)
		return false
	}
	patience, cancel := context.WithDeadline(ctx, g.deadline())
	defer cancel()
	sequence, met, err := b.commit(patience, g.tx.staged())
	switch {
	case met != nil:
		b.stats.conflicts.Add(1)
		b.groups.contended.Store(true)
		for _, m := range g.members {
			m.sent.Store(false) // certainly not applied
		}
		if err := b.afterConflict(patience, met, g.tx, n); err != nil {
			g.answer(0, fmt.Errorf("repeat transaction after a conflict: %w", err))
			return false
		}
		return true
	case err != nil && len(g.members) > 1 && patience.Err() == nil && !errors.Is(err, ErrOutcomeUnknown):
		// One of them may be to blame: each for itself.
		for _, m := range g.members {
			b.commitGroup(ctx, []*member{m})
		}
		return false
	case err != nil:
		g.answer(0, err)
		return false
	}
	b.stats.commits.Add(1)
	b.noteCommit()
	_ = b.view.wait(patience, sequence) // the next group finds it there; who cares waits longer
	g.answer(sequence, nil)
	return false
}

// deadline answers when the last of the members gives up.
func (g group) deadline() time.Time {
	latest := g.members[0].deadline
	for _, m := range g.members[1:] {
		if m.deadline.After(latest) {
			latest = m.deadline
		}
	}
	return latest
}

func (g group) answer(sequence uint64, err error) {
	for i, m := range g.members {
		m.sequence, m.err = sequence, err
		if g.results[i] != nil {
			m.sequence, m.err = 0, g.results[i]
		}
		close(m.answered)
	}
}
