package bucket

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// everybody is the whole of a bucket's turn; a shared attempt takes one part.
const everybody = 1 << 30

// Update runs a transaction and answers the sequence of its commit, or of the
// snapshot when it wrote nothing; the view has that sequence then. fn reads and
// writes through tx only. It must have no other effect, because it runs again
// when somebody else's commit came between; an error that it returns ends the
// transaction without a commit and is answered as it is.
//
// Other errors: the context's; ErrOutcomeUnknown; ErrTooManyWrites; what the
// store refuses. Without the store, Update waits for it until ctx ends: give it
// a deadline.
func (b *Bucket) Update(ctx context.Context, fn func(tx *Tx) error) (uint64, error) {
	if err := b.Ready(ctx); err != nil {
		return 0, err
	}
	for attempt := 0; ; attempt++ {
		sequence, met, err := b.attempt(ctx, fn, attempt > 0)
		if err != nil || met == nil {
			return sequence, err
		}
		b.stats.conflicts.Add(1)
		if err := b.afterConflict(ctx, met, attempt); err != nil {
			return 0, fmt.Errorf("repeat transaction after a conflict: %w", err)
		}
	}
}

// collision is a conflict and the attempt that met it.
type collision struct {
	*conflict
	tx *Tx
}

func (b *Bucket) attempt(ctx context.Context, fn func(tx *Tx) error, alone bool) (uint64, *collision, error) {
	part := int64(1)
	if alone {
		part = everybody
	}
	if err := b.turn.Acquire(ctx, part); err != nil {
		return 0, nil, fmt.Errorf("wait for a turn: %w", err)
	}
	defer b.turn.Release(part)

	tx := newTx(b.view.snapshot())
	if err := fn(tx); err != nil {
		return 0, nil, err
	}
	if tx.problem != nil {
		return 0, nil, fmt.Errorf("transaction: %w", tx.problem)
	}
	if len(tx.order) == 0 {
		return tx.Sequence(), nil, nil
	}
	sequence, met, err := b.commit(ctx, tx.staged())
	if err != nil {
		return 0, nil, err
	}
	if met != nil {
		return 0, &collision{conflict: met, tx: tx}, nil
	}
	b.stats.commits.Add(1)
	b.noteCommit()
	// The turn is kept until the view has the commit: who comes next alone
	// finds it there.
	if err := b.Wait(ctx, sequence); err != nil {
		return 0, nil, fmt.Errorf("committed, but: %w", err)
	}
	return sequence, nil, nil
}

// afterConflict waits until the view shows what the attempt collided with, so
// that the next attempt is not void before it starts.
func (b *Bucket) afterConflict(ctx context.Context, met *collision, attempt int) error {
	short, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	switch {
	case met.known && met.last > met.tx.Sequence():
		_ = b.view.wait(short, met.last) // late is no error: the next attempt sees
	case met.known:
		// The store holds something older than the view does, for one key: its
		// tombstone has ended.
		if err := b.forgetTombstones(short, met.tx); err != nil {
			return err
		}
	default:
		_ = b.view.wait(short, met.tx.Sequence()+1)
	}
	if attempt == 0 {
		return ctx.Err()
	}
	most := min(time.Millisecond<<min(attempt, 5), 20*time.Millisecond)
	return sleep(ctx, rand.N(most))
}

// forgetTombstones drops from the view those tombstones of the attempt's keys
// that the store no longer has.
func (b *Bucket) forgetTombstones(ctx context.Context, tx *Tx) error {
	for _, w := range tx.staged() {
		if n := tx.snapshot.root.find(w.key); n == nil || !n.deleted {
			continue
		}
		last, _, err := b.lastOf(ctx, w.key)
		if err != nil {
			return err
		}
		if last == 0 {
			b.view.forget(w.key, w.expected)
		}
	}
	return nil
}
