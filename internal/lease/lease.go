// Package lease chooses, among the replicas of a service, the one that decides.
//
// It owns one key of the service's bucket, which the chosen one renews, and
// which says up to where it has decided. It promises that a holder that ends
// gives way at once, one that dies within Term, and that what a former holder
// still tries to commit through Commit is refused by the store: no clocks are
// compared, and none must agree. It must not know what is decided.
//
// Used by services/egress, services/tenancy and package kube.
package lease

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/damask-sdn/damask/internal/bucket"
)

// Times of the lease. A holder that was not seen to renew for Term is replaced.
const (
	Term  = 3 * time.Second
	renew = time.Second
)

// ErrLost says that another replica decides now.
var ErrLost = errors.New("another replica has the lease")

// Lease is a replica's part in choosing the one that decides.
type Lease struct {
	bucket *bucket.Bucket
	key    string
	id     string // of this process; no other has it

	mu       sync.Mutex
	decided  uint64 // up to which sequence this replica decided, and stored it
	value    string
	revision uint64
	seen     time.Time
	changed  chan struct{}
}

// New returns a replica's part in the lease that is kept under a key. id is
// unique.
func New(key, id string) *Lease {
	return &Lease{key: key, id: id, seen: time.Now(), changed: make(chan struct{}, 1)}
}

// Observe learns who has the lease from changes of the bucket.
func (l *Lease) Observe(changes []bucket.Change, reset bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if reset {
		l.value, l.revision, l.decided = "", 0, 0
	}
	for _, c := range changes {
		if c.Key != l.key {
			continue
		}
		l.value, l.revision, l.seen = string(c.Value), c.Revision, time.Now()
		select {
		case l.changed <- struct{}{}:
		default:
		}
	}
}

// Use ties the lease to the bucket that it observes.
func (l *Lease) Use(b *bucket.Bucket) { l.bucket = b }

// The value of the lease is "ID COUNT DECIDED": who has it, something that
// differs with every renewal, and up to which sequence decisions are stored.
func (l *Lease) written(before bucket.Entry, decided uint64) []byte {
	return fmt.Appendf(nil, "%s %d %d", l.id, before.Revision+1, decided)
}

func holder(value string) string {
	id, _, _ := strings.Cut(value, " ")
	return id
}

// DecidedIn answers up to which sequence a snapshot shows decisions of whoever has
// the lease under a key; 0 while that is not known.
func DecidedIn(s bucket.Snapshot, key string) uint64 {
	e, _ := s.Get(key)
	fields := strings.Fields(string(e.Value))
	if len(fields) != 3 {
		return 0
	}
	sequence, err := strconv.ParseUint(fields[2], 10, 64)
	if err != nil {
		return 0
	}
	return sequence
}

// free says whether the lease can be taken, or how long it takes until it might.
func (l *Lease) free() (value string, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.value == "" || holder(l.value) == l.id {
		return l.value, 0
	}
	return l.value, time.Until(l.seen.Add(Term))
}

// Hold waits for the lease, runs lead while it holds, and begins again, until
// ctx ends. lead must return when its context ends. It answers errors of lead
// that are not the lease's or the store's.
func (l *Lease) Hold(ctx context.Context, lead func(ctx context.Context) error) error {
	for ctx.Err() == nil {
		value, wait := l.free()
		if wait <= 0 {
			wait = renew / 2
			if l.take(ctx, value) == nil {
				if err := l.holdOnce(ctx, lead); err != nil {
					return err
				}
				continue
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-l.changed:
		}
		timer.Stop()
	}
	l.release()
	return nil
}

// take writes the lease as this replica's, if it still is what it was, or is this
// replica's.
func (l *Lease) take(ctx context.Context, was string) error {
	bounded, cancel := context.WithTimeout(ctx, renew)
	defer cancel()
	_, err := l.bucket.Update(bounded, func(tx *bucket.Tx) error {
		e, _ := tx.Get(l.key)
		if string(e.Value) != was && holder(string(e.Value)) != l.id {
			return ErrLost
		}
		tx.Put(l.key, l.written(e, l.upTo(0)))
		return nil
	})
	return err
}

// holdOnce leads until the lease is lost.
func (l *Lease) holdOnce(ctx context.Context, lead func(ctx context.Context) error) error {
	leading, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- lead(leading) }()
	tick := time.NewTicker(renew)
	defer tick.Stop()
	renewed := time.Now()
	for {
		select {
		case err := <-done:
			if errors.Is(err, ErrLost) || ctx.Err() != nil {
				return nil
			}
			return err
		case <-tick.C:
		}
		l.mu.Lock()
		value := l.value
		l.mu.Unlock()
		err := ErrLost
		if holder(value) == l.id {
			err = l.take(ctx, value)
		}
		switch {
		case err == nil:
			renewed = time.Now()
		case holder(value) != l.id || time.Since(renewed) > Term-renew:
			stop()
			<-done
			return nil
		}
	}
}

// release gives the lease up, so that another need not wait.
func (l *Lease) release() {
	ctx, cancel := context.WithTimeout(context.Background(), renew)
	defer cancel()
	// Without the store it ends by itself.
	_, _ = l.bucket.Update(ctx, func(tx *bucket.Tx) error {
		if e, exists := tx.Get(l.key); exists && holder(string(e.Value)) == l.id {
			tx.Delete(l.key)
		}
		return nil
	})
}

// upTo raises the sequence up to which decisions are stored, and answers it.
func (l *Lease) upTo(sequence uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.decided = max(l.decided, sequence)
	return l.decided
}

// Decided says that everything up to a sequence is decided, and stored. Others
// read it after the next renewal.
func (l *Lease) Decided(sequence uint64) { l.upTo(sequence) }

// Held answers ErrLost unless this replica has the lease, as a transaction sees
// it. It does not make the commit fail should the lease be lost meanwhile: see
// Commit.
func (l *Lease) Held(tx *bucket.Tx) error {
	e, exists := tx.Get(l.key)
	if !exists || holder(string(e.Value)) != l.id {
		return ErrLost
	}
	return nil
}

// Commit commits what stage stages, if this replica still has the lease at that
// moment.
func (l *Lease) Commit(ctx context.Context, stage func(tx *bucket.Tx)) error {
	return l.CommitAll(ctx, 0, stage)
}

// CommitAll is Commit of all that was still to be decided up to a sequence.
func (l *Lease) CommitAll(ctx context.Context, sequence uint64, stage func(tx *bucket.Tx)) error {
	_, err := l.bucket.Update(ctx, func(tx *bucket.Tx) error {
		if err := l.Held(tx); err != nil {
			return err
		}
		e, _ := tx.Get(l.key)
		tx.Put(l.key, l.written(e, max(sequence, l.upTo(0))))
		stage(tx)
		return nil
	})
	if err != nil {
		return fmt.Errorf("commit decisions: %w", err)
	}
	l.upTo(sequence)
	return nil
}
