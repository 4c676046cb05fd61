package kube

import (
	"context"
	"errors"
	"time"

	"github.com/damask-sdn/damask/internal/bucket"
)

// AdoptedKey is the key of a service's bucket that says of which cluster, by the UID of its
// kube-system, the objects were taken over. While it is not there, a number that the store
// does not know may be in an object: nothing new may be given out.
const AdoptedKey = "kube.adopted"

// ErrNotAdopted says that something can not be given out yet. It passes by itself.
var ErrNotAdopted = errors.New("what the cluster's objects have was not taken over yet")

// Adopted answers ErrNotAdopted as long as new numbers must not be given out, as a
// transaction sees it.
func Adopted(r bucket.Reader) error {
	if _, done := r.Get(AdoptedKey); !done {
		return ErrNotAdopted
	}
	return nil
}

// Adopt has take bring into the store what the objects have and it does not know, once for a
// store and a cluster. It is called by whoever has the lease, before Lead. An error of take is
// logged, and it is called again: the API server or the store may be away. Adopt
// answers other errors than its context's, as Lead does.
func (a *Adapter) Adopt(ctx context.Context, b *bucket.Bucket, take func(ctx context.Context) error) error {
	uid, err := a.bind(ctx, b)
	if err != nil || ctx.Err() != nil {
		return err
	}
	if e, done := b.Get(AdoptedKey); done && string(e.Value) == uid {
		return nil
	}
	for ctx.Err() == nil {
		err := take(ctx)
		if err == nil {
			_, err = b.Update(ctx, func(tx *bucket.Tx) error {
				tx.Put(AdoptedKey, []byte(uid))
				return nil
			})
		}
		if err == nil {
			a.log.Info("took over what the cluster's objects have")
			return nil
		}
		if ctx.Err() == nil {
			a.log.Warn("taking over what the cluster's objects have, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(askAgain):
		}
	}
	return nil
}
