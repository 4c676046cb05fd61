package resolution

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/lease"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// Bounds of one commit: keys, below the store's own limit, and bytes, so that a
// commit of large objects is none that takes seconds.
const (
	maxWrites = 900
	maxBytes  = 4 << 20
)

// write is a key that is to have a value; nil: that is not to be there.
type write struct {
	key   string
	value []byte
}

// writer collects writes, and commits them in the order in which they came.
type writer struct {
	resolution *Resolution
	term       uint64
	staged     []write
	written    int
}

// stage adds a write.
func (w *writer) stage(key string, object proto.Message) {
	if object == nil {
		w.staged = append(w.staged, write{key: key})
		return
	}
	// Deterministic, so that writing an object unchanged is seen as no change.
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(object)
	if err != nil { // what this package made itself
		w.resolution.log.Error("a resolved object cannot be encoded", "key", key, "error", err)
		return
	}
	w.staged = append(w.staged, write{key: key, value: value})
}

// finish commits everything, and with the last of it that everything that
// follows from changes up to a sequence is there.
func (w *writer) finish(ctx context.Context, upTo uint64) error {
	if len(w.staged) == 0 {
		return w.try(ctx, nil, upTo)
	}
	for len(w.staged) > 0 {
		n, bytes := 0, 0
		for n < len(w.staged) && n < maxWrites && (n == 0 || bytes+len(w.staged[n].value) <= maxBytes) {
			bytes += len(w.staged[n].value)
			n++
		}
		part := w.staged[:n]
		w.staged = w.staged[n:]
		done := uint64(0)
		if len(w.staged) == 0 {
			done = upTo
		}
		if err := w.commit(ctx, part, done); err != nil {
			return err
		}
	}
	return nil
}

// commit commits some writes. One that the store does not take, for its size,
// stops nobody but itself.
func (w *writer) commit(ctx context.Context, part []write, upTo uint64) error {
	err := w.try(ctx, part, upTo)
	switch {
	case err == nil:
		w.written += len(part)
		return nil
	case ctx.Err() != nil || errors.Is(err, lease.ErrLost) || errors.Is(err, bucket.ErrViewBehind):
		return err
	case len(part) == 1:
		w.resolution.log.Error("the store refuses a resolved object, the last one stays in force", "key", part[0].key, "bytes", len(part[0].value), "error", err)
		return w.try(ctx, nil, upTo)
	}
	for i := range part {
		last := uint64(0)
		if i == len(part)-1 {
			last = upTo
		}
		if err := w.commit(ctx, part[i:i+1], last); err != nil {
			return err
		}
	}
	return nil
}

// try is one commit. That it changes the marker is what makes it fail when
// another replica has taken over.
func (w *writer) try(ctx context.Context, part []write, upTo uint64) error {
	_, err := w.resolution.bucket.Update(ctx, func(tx *bucket.Tx) error {
		if err := w.resolution.lease.Held(tx); err != nil {
			return err
		}
		m, _, err := marker().Get(tx, markerName)
		if err != nil {
			return err
		}
		if m.GetTerm() != w.term {
			return lease.ErrLost
		}
		for _, one := range part {
			if one.value == nil {
				tx.Delete(one.key)
			} else {
				tx.Put(one.key, one.value)
			}
		}
		marker().Touch(tx, markerName)
		if upTo > m.GetResolvedUpTo() {
			marker().Put(tx, &tenancyv1.Resolution{ResolvedUpTo: upTo, Term: w.term}, markerName)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("commit what policies come down to: %w", err)
	}
	return nil
}
