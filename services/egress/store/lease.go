package store

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

const leaseKey = "lease.placement"

// Times of the lease. A holder that was not seen to renew for leaseTerm is
// replaced; what it still tries to commit is refused by the store, so no clocks
// are compared and none must agree.
const (
	leaseTerm  = 3 * time.Second
	leaseRenew = time.Second
)

// ErrLeaseLost says that another replica decides now.
var ErrLeaseLost = errors.New("another replica has the lease")

// Lease is a replica's part in choosing the one that decides.
type Lease struct {
	store *Store
	id    string // of this process; no other has it

	mu       sync.Mutex
	decided  uint64 // up to which sequence this replica decided, and stored it
	value    string
	revision uint64
	seen     time.Time
	changed  chan struct{}
}

// NewLease returns a replica's part. id is unique.
func NewLease(id string) *Lease {
	return &Lease{id: id, seen: time.Now(), changed: make(chan struct{}, 1)}
}

// Observe learns who has the lease from changes of the bucket.
func (l *Lease) Observe(changes []bucket.Change, reset bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if reset {
		l.value, l.revision, l.decided = "", 0, 0
	}
	for _, c := range changes {
		if c.Key != leaseKey {
			continue
		}
		l.value, l.revision, l.seen = string(c.Value), c.Revision, time.Now()
		select {
		case l.changed <- struct{}{}:
		default:
		}
	}
}

// Use ties the lease to the store of the bucket that it observes.
func (l *Lease) Use(s *Store) { l.store = s }

// The value of the lease is "ID COUNT DECIDED": who has it, something that
// differs with every renewal, and up to which sequence decisions are stored.
func (l *Lease) written(before bucket.Entry, decided uint64) []byte {
	return fmt.Appendf(nil, "%s %d %d", l.id, before.Revision+1, decided)
}

func holder(value string) string {
	id, _, _ := strings.Cut(value, " ")
	return id
}

// decided answers up to which sequence a snapshot shows decisions; 0 while that is
// not known.
func decided(s bucket.Snapshot) uint64 {
	e, _ := s.Get(leaseKey)
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
	return l.value, time.Until(l.seen.Add(leaseTerm))
}

// Hold waits for the lease, runs lead while it holds, and begins again, until
// ctx ends. lead must return when its context ends. It answers errors of lead
// that are not the lease's or the store's.
func (l *Lease) Hold(ctx context.Context, lead func(ctx context.Context) error) error {
	for ctx.Err() == nil {
		value, wait := l.free()
		if wait <= 0 {
			wait = leaseRenew / 2
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
	bounded, cancel := context.WithTimeout(ctx, leaseRenew)
	defer cancel()
	_, err := l.store.bucket.Update(bounded, func(tx *bucket.Tx) error {
		e, _ := tx.Get(leaseKey)
		if string(e.Value) != was && holder(string(e.Value)) != l.id {
			return ErrLeaseLost
		}
		tx.Put(leaseKey, l.written(e, l.upTo(0)))
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
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	renewed := time.Now()
	for {
		select {
		case err := <-done:
			if errors.Is(err, ErrLeaseLost) || ctx.Err() != nil {
				return nil
			}
			return err
		case <-tick.C:
		}
		l.mu.Lock()
		value := l.value
		l.mu.Unlock()
		err := ErrLeaseLost
		if holder(value) == l.id {
			err = l.take(ctx, value)
		}
		switch {
		case err == nil:
			renewed = time.Now()
		case holder(value) != l.id || time.Since(renewed) > leaseTerm-leaseRenew:
			stop()
			<-done
			return nil
		}
	}
}

// release gives the lease up, so that another need not wait.
func (l *Lease) release() {
	ctx, cancel := context.WithTimeout(context.Background(), leaseRenew)
	defer cancel()
	// Without the store it ends by itself.
	_, _ = l.store.bucket.Update(ctx, func(tx *bucket.Tx) error {
		if e, exists := tx.Get(leaseKey); exists && holder(string(e.Value)) == l.id {
			tx.Delete(leaseKey)
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

// Decided says that all wishes up to a sequence are decided upon, and stored. Others
// read it after the next renewal.
func (l *Lease) Decided(sequence uint64) { l.upTo(sequence) }

// Commit commits what stage stages, if this replica still has the lease at that
// moment.
func (l *Lease) Commit(ctx context.Context, stage func(tx *bucket.Tx)) error {
	return l.CommitAll(ctx, 0, stage)
}

// CommitAll is Commit of all that was still to be decided up to a sequence.
func (l *Lease) CommitAll(ctx context.Context, sequence uint64, stage func(tx *bucket.Tx)) error {
	_, err := l.store.bucket.Update(ctx, func(tx *bucket.Tx) error {
		e, exists := tx.Get(leaseKey)
		if !exists || holder(string(e.Value)) != l.id {
			return ErrLeaseLost
		}
		tx.Put(leaseKey, l.written(e, max(sequence, l.upTo(0))))
		stage(tx)
		return nil
	})
	if err != nil {
		return fmt.Errorf("commit decisions: %w", err)
	}
	l.upTo(sequence)
	return nil
}
