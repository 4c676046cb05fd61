package resolution

import (
	"context"
	"fmt"

	"github.com/damask-sdn/damask/internal/bucket"
)

// Waiter says when changes are resolved, by whichever replica. It is safe for
// concurrent use.
type Waiter struct {
	bucket *bucket.Bucket
	moved  *moved
}

// NewWaiter returns a waiter on a bucket of whose changes the resolution is
// told.
func (r *Resolution) NewWaiter(b *bucket.Bucket) *Waiter { return &Waiter{bucket: b, moved: &r.moved} }

// Resolved returns when all that follows from a change of the given revision is
// stored, and answers a sequence at which it is.
func (w *Waiter) Resolved(ctx context.Context, revision uint64) (uint64, error) {
	if err := w.bucket.Wait(ctx, revision); err != nil {
		return 0, err
	}
	// Not every sequence is one of a change that is resolved.
	newest := uint64(0)
	for _, kind := range sources {
		newest = max(newest, w.bucket.Newest(kind))
	}
	want := min(revision, newest)
	for {
		changed, latest := w.moved.next()
		if err := w.bucket.Wait(ctx, latest); err != nil {
			return 0, err
		}
		m, exists, err := marker().Get(w.bucket, markerName)
		if err != nil {
			return 0, fmt.Errorf("wait until revision %d is resolved: %w", revision, err)
		}
		if exists && m.GetResolvedUpTo() >= want {
			return m.GetRevision(), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, fmt.Errorf("wait until revision %d is resolved: %w", revision, context.Cause(ctx))
		}
	}
}

// UpTo answers up to which revision changes are resolved, as a snapshot shows it.
func UpTo(s bucket.Reader) (uint64, error) {
	m, _, err := marker().Get(s, markerName)
	return m.GetResolvedUpTo(), err
}
