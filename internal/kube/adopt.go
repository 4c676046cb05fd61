package kube

import (
	"context"
	"errors"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/damask-sdn/damask/internal/bucket"
)

// AdoptedKey is the key of a service's bucket that says of which cluster, by the UID of its
// kube-system, the objects were taken over. While it is not there, a number that the store
// does not know may be in an object: nothing new may be given out.
const AdoptedKey = "kube.adopted"

var errNotAdopted = errors.New("what the cluster's objects have was not taken over yet")

// Adopted answers an error as long as new numbers must not be given out, as a transaction
// sees it. It passes by itself.
func Adopted(r bucket.Reader) error {
	if _, done := r.Get(AdoptedKey); !done {
		return errNotAdopted
	}
	return nil
}

// adopt waits for the API server, refuses to bring the store to another cluster than its
// own, and has take bring into the store what the objects have and it does not know, if that
// was not done. It is called by whoever has the lease.
func (a *Adapter) adopt(ctx context.Context, take func(ctx context.Context) error) error {
	uid, err := a.bind(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	if e, done := a.bucket.Get(AdoptedKey); done && string(e.Value) == uid {
		return nil
	}
	for ctx.Err() == nil {
		err := take(ctx)
		if err == nil {
			_, err = a.bucket.Update(ctx, func(tx *bucket.Tx) error {
				tx.Put(AdoptedKey, []byte(uid))
				return nil
			})
		}
		if err == nil {
			a.log.Info("took over what the cluster's objects have")
			return nil
		}
		pause := askAgain
		var notStarted *cache.ErrCacheNotStarted
		switch {
		case errors.As(err, &notStarted):
			pause = retryFirst // It is being started beside us.
		case ctx.Err() == nil:
			a.log.Warn("taking over what the cluster's objects have, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}
