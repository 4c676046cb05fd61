// Package assign turns facts into decisions: which node holds which egress IP
// now, and what namespaces are told.
//
// It owns egressassignment, egresspods and egresshosting in the store. It
// promises that an address is given to a node only when every other node that
// had it has said that it gave it up, is down, or is gone; and that nothing is
// decided before the facts are known to be complete. One replica decides, the
// one with the lease. Where an address should be is package placement's.
package assign

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/services/egress/facts"
	"github.com/damask-sdn/damask/services/egress/store"
)

const (
	// atOnce is how many keys are committed at once, below what a transaction
	// may have.
	atOnce = 900
	// commitTime bounds a commit: the lease is shorter.
	commitTime = 5 * time.Second
	// retryAfter is the pause after a commit that did not work.
	retryAfter = 200 * time.Millisecond
)

// lease is what makes this replica the one that decides.
type lease interface {
	// CommitAll commits what is decided, and that nothing is left up to a sequence.
	CommitAll(ctx context.Context, sequence uint64, stage func(tx *bucket.Tx)) error
	// Decided says that nothing was to be stored up to a sequence.
	Decided(sequence uint64)
}

// Lead decides until ctx ends, or the lease is lost, which it answers. The facts
// are complete when it is called.
func Lead(ctx context.Context, book *facts.Book, l lease, log hclog.Logger) error {
	failing := false
	for ctx.Err() == nil {
		err := leadOnce(ctx, book, l, log)
		if errors.Is(err, store.ErrLeaseLost) {
			return err
		}
		if err != nil && ctx.Err() == nil && !failing {
			log.Warn("decisions are not committed, trying again", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
		}
	}
	return nil
}

// leadOnce decides until something fails; then what was decided in memory is
// not what is stored, and all begins again from there.
func leadOnce(ctx context.Context, book *facts.Book, l lease, log hclog.Logger) error {
	d := newDesk(book, time.Now)
	changes := book.TakeAll()
	d.inherit(changes)
	for {
		writes := d.step(changes)
		if err := commit(ctx, l, writes, changes); err != nil {
			return err
		}
		if len(writes) > 0 {
			log.Debug("decided", "keys", len(writes))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-book.Wake():
		}
		changes = book.Take()
	}
}

// commit writes decisions, in order, and at last that they are made: at once when
// somebody wished for something, who may wait for it.
func commit(ctx context.Context, l lease, writes []write, c facts.Changes) error {
	if len(writes) == 0 && !c.Wished {
		l.Decided(c.Sequence)
		return nil
	}
	for last := false; !last; {
		part := writes[:min(atOnce, len(writes))]
		writes = writes[len(part):]
		last = len(writes) == 0
		var sequence uint64
		if last {
			sequence = c.Sequence
		}
		bounded, cancel := context.WithTimeout(ctx, commitTime)
		err := l.CommitAll(bounded, sequence, func(tx *bucket.Tx) {
			for _, w := range part {
				w.stage(tx)
			}
		})
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}
