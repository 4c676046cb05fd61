package resolution

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/lease"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/catchup"
)

// leaseKey is where the replicas agree on who resolves.
const leaseKey = "lease.resolution"

// Resolution is a replica's part in resolving.
type Resolution struct {
	bucket *bucket.Bucket
	lease  *lease.Lease
	facts  *facts
	moved  moved
	meter  Meter
	log    hclog.Logger
}

// Meter is told how resolving goes.
type Meter struct {
	// Leading says whether this replica resolves.
	Leading func(bool)
	// Round is told of each round: how long it took from the first look at the
	// changes to the last commit, and how many keys it wrote.
	Round func(took time.Duration, writes int)
}

// New returns a replica's part. id is unique.
func New(id string, meter Meter, log hclog.Logger) *Resolution {
	return &Resolution{lease: lease.New(leaseKey, id), facts: newFacts(), meter: meter, log: log.Named("resolution")}
}

// Observe takes over changes of the bucket.
func (r *Resolution) Observe(changes []bucket.Change, reset bool) {
	r.lease.Observe(changes, reset)
	r.facts.observe(changes, reset)
	r.moved.observe(changes, reset)
}

// Run resolves whenever this replica has the lease, until ctx ends. The bucket's
// view has caught up once.
func (r *Resolution) Run(ctx context.Context, b *bucket.Bucket) error {
	r.bucket = b
	r.lease.Use(b)
	return r.lease.Hold(ctx, func(ctx context.Context) error {
		r.log.Info("this replica resolves policies")
		r.meter.Leading(true)
		defer r.meter.Leading(false)
		for ctx.Err() == nil {
			err := r.lead(ctx)
			switch {
			case err == nil, errors.Is(err, lease.ErrLost):
				return err
			case !errors.Is(err, errReplaced):
				r.log.Warn("resolving was interrupted, comparing everything anew", "error", err)
				_ = pause(ctx)
			}
		}
		return nil
	})
}

// errReplaced says that all is to be compared: the store was replaced by another
// one, or what was kept as it is need not be any more.
var errReplaced = errors.New("everything is to be compared anew")

// retryAfter is the pause after a store that did not answer.
const retryAfter = 200 * time.Millisecond

// lead takes over, and resolves until ctx ends or the lease is lost.
func (r *Resolution) lead(ctx context.Context) error {
	r.facts.begin()
	defer r.facts.end()
	for catchup.Fully(ctx, r.bucket) != nil {
		if pause(ctx) != nil {
			return nil
		}
	}
	term, err := r.takeOver(ctx)
	if err != nil {
		return ended(ctx, err)
	}
	began := time.Now()
	snapshot := r.bucket.Snapshot()
	book := newBook(snapshot, r.log)
	w := &writer{resolution: r, term: term}
	book.compareWith(snapshot, w.stage)
	if err := w.finish(ctx, snapshot.Sequence()); err != nil {
		return ended(ctx, err)
	}
	r.meter.Round(time.Since(began), w.written)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.facts.wake:
		}
		if err := r.round(ctx, book, term); err != nil {
			return ended(ctx, err)
		}
	}
}

// ended answers the error of a lead that did not end because it was to.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// round resolves what has changed since the last one.
func (r *Resolution) round(ctx context.Context, book *book, term uint64) error {
	changed := r.facts.take()
	if changed.all {
		return errReplaced
	}
	if len(changed.keys) == 0 {
		return nil
	}
	began := time.Now()
	// The observer is told before the view shows it.
	if err := r.bucket.Wait(ctx, changed.newest); err != nil {
		return err
	}
	snapshot := r.bucket.Snapshot()
	for key := range changed.keys {
		book.look(snapshot, key)
	}
	if book.kept.stale {
		return errReplaced
	}
	w := &writer{resolution: r, term: term}
	book.drain(w.stage)
	if err := w.finish(ctx, changed.newest); err != nil {
		return err
	}
	r.meter.Round(time.Since(began), w.written)
	return nil
}

// takeOver makes what a former holder still tries to commit fail, and answers
// the new term. What the view shows from here on, nobody else changes.
func (r *Resolution) takeOver(ctx context.Context) (uint64, error) {
	var term uint64
	_, err := r.bucket.Update(ctx, func(tx *bucket.Tx) error {
		if err := r.lease.Held(tx); err != nil {
			return err
		}
		m, exists, err := marker().Get(tx, markerName)
		if err != nil {
			return err
		}
		if !exists {
			m = &tenancyv1.Resolution{}
		}
		term = m.GetTerm() + 1
		marker().Put(tx, &tenancyv1.Resolution{ResolvedUpTo: m.GetResolvedUpTo(), Term: term}, markerName)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("take over resolving: %w", err)
	}
	return term, nil
}

func pause(ctx context.Context) error {
	timer := time.NewTimer(retryAfter)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
