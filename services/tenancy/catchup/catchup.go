// Package catchup waits for a view of the store that is good enough for what
// is asked.
//
// It owns how long a replica waits for its store before it says that the store
// is away. It promises that a replica that is cut off says so within a few
// seconds, so that the caller can ask another one, and still answers questions
// from memory.
package catchup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/damask-sdn/damask/internal/bucket"
)

// patience bounds the wait for the store. Callers wait longer than this, and
// have the time to try another replica.
const patience = 2 * time.Second

// ErrStoreAway is in the chain of errors that are not the caller's fault: the
// store did not answer.
var ErrStoreAway = errors.New("the store does not answer")

// Fully returns when the view has all that was committed before the call, by
// any replica.
func Fully(ctx context.Context, b *bucket.Bucket) error {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := b.Refresh(bounded); err != nil {
		return fmt.Errorf("%w: %w", ErrStoreAway, err)
	}
	return nil
}

// Once returns when the view has shown the store at least once. Before that it
// is empty, which must not be taken for an empty store.
func Once(ctx context.Context, b *bucket.Bucket) error {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := b.Ready(bounded); err != nil {
		return fmt.Errorf("%w: %w", ErrStoreAway, err)
	}
	return nil
}

// IfPossible is Fully while the store answers, and Once when it is away: for
// questions that are better answered late than not at all.
func IfPossible(ctx context.Context, b *bucket.Bucket) error {
	if Fully(ctx, b) == nil {
		return nil
	}
	return Once(ctx, b)
}
