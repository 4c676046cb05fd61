package bucket

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// ErrViewBehind: the commit was applied, but the context ended before the view
// of this process showed it. Update answers its sequence with this error.
var ErrViewBehind = errors.New("committed, but the view does not show it yet")

// Update runs a transaction and answers the sequence of its commit, or of the
// snapshot when it wrote nothing; the view has that sequence then. fn reads and
// writes through tx only. It must have no other effect, because it may run
// several times, and in another goroutine; an error that it returns ends the
// transaction without a commit and is answered as it is.
//
// Transactions of several keys that come at the same time are committed
// together, one seeing the writes of the other: see group.
//
// Other errors: the context's; ErrOutcomeUnknown; ErrViewBehind;
// ErrTooManyWrites; what the store refuses. Without the store, Update waits for
// it until ctx ends: give it a deadline.
func (b *Bucket) Update(ctx context.Context, fn func(tx *Tx) error) (uint64, error) {
	if err := b.Ready(ctx); err != nil {
		return 0, err
	}
	sequence, done, err := b.tryAlone(ctx, fn)
	if !done && err == nil {
		sequence, err = b.inGroup(ctx, fn)
	}
	if err != nil {
		return 0, err
	}
	if err := b.view.wait(ctx, sequence); err != nil {
		return sequence, fmt.Errorf("%w: %w", ErrViewBehind, err)
	}
	return sequence, nil
}

// tryAlone runs the transaction at once, and commits it by itself if it writes
// a single key: that is cheap, and most need no more. It is not done when
// several keys are written, or somebody else's commit came between.
func (b *Bucket) tryAlone(ctx context.Context, fn func(tx *Tx) error) (sequence uint64, done bool, err error) {
	if b.groups.contended.Load() {
		return 0, false, nil // a group that met conflicts must not meet more of our own
	}
	tx := newTx(b.view.snapshot())
	if err := tx.run(fn); err != nil {
		return 0, false, err
	}
	switch len(tx.writes) {
	case 0:
		return tx.Sequence(), true, nil
	case 1:
	default:
		return 0, false, nil
	}
	sequence, met, err := b.commit(ctx, tx.staged())
	if err != nil {
		return 0, false, err
	}
	if met != nil {
		b.stats.conflicts.Add(1)
		return 0, false, b.afterConflict(ctx, met, tx, 0)
	}
	b.stats.commits.Add(1)
	b.noteCommit()
	return sequence, true, nil
}

// afterConflict waits until the view shows what the attempt collided with, so
// that the next attempt is not void before it starts.
func (b *Bucket) afterConflict(ctx context.Context, met *conflict, tx *Tx, attempt int) error {
	short, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	switch {
	case met.known && met.last > tx.Sequence():
		_ = b.view.wait(short, met.last) // late is no error: the next attempt sees
	case met.known:
		// The store holds something older than the view does, for one key: its
		// tombstone has ended.
		b.forgetTombstones(short, tx)
	default:
		_ = b.view.wait(short, tx.Sequence()+1)
	}
	if attempt == 0 {
		return ctx.Err()
	}
	return sleep(ctx, rand.N(min(time.Millisecond<<min(attempt, 5), 20*time.Millisecond)))
}

// forgetTombstones drops from the view those tombstones of the attempt's keys
// that the store no longer has. What cannot be found out now is found out after
// the next conflict.
func (b *Bucket) forgetTombstones(ctx context.Context, tx *Tx) {
	for _, w := range tx.staged() {
		if n := tx.snapshot.root.find(w.key); n == nil || !n.deleted {
			continue
		}
		if last, _, err := b.lastOf(ctx, w.key); err == nil && last == 0 {
			b.view.forget(w.key, w.expected)
		}
	}
}
