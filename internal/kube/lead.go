package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/damask-sdn/damask/internal/bucket"
)

// interrupted is the pause before everything is compared anew.
const interrupted = 200 * time.Millisecond

// Work is what a service does with a cluster's objects while its replica has the lease.
type Work struct {
	// Begin is called whenever it begins: what was remembered may be old. May be nil.
	Begin func()
	// Adopt brings into the store what the objects have and it does not know, before
	// anything is reconciled, once for a store and a cluster: see Adopted. An error is
	// logged, and it is called again: the API server or the store may be away.
	Adopt func(ctx context.Context) error
	// Controllers are the kinds.
	Controllers []Controller
}

// Observe learns of changes of the bucket. It must be called before a Feed is told of them.
func (a *Adapter) Observe(changes []bucket.Change, reset bool) {
	a.lease.Observe(changes, reset)
	newest := a.observed.Load()
	if reset {
		newest = 0 // Another store counts anew.
	}
	for _, c := range changes {
		newest = max(newest, c.Revision)
	}
	a.observed.Store(newest)
	if !reset {
		return
	}
	// Of what the store has no more nobody is told.
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.anew != nil {
		a.anew()
	}
}

// Use ties the adapter to the bucket that it observes. It is called once, before Run.
func (a *Adapter) Use(b *bucket.Bucket) {
	a.bucket = b
	a.lease.Use(b)
}

// Run keeps the cache and sends events until ctx ends, and works while this replica has the
// lease. A cluster that is another than the store's is not followed: a person must put that
// right, and what the store has is served meanwhile.
func (a *Adapter) Run(ctx context.Context, work Work) error {
	group, ctx := errgroup.WithContext(ctx)
	a.keep(ctx, group)
	group.Go(func() error {
		if a.bucket.Ready(ctx) != nil { // the end has come
			return nil
		}
		return a.lease.Hold(ctx, func(ctx context.Context) error { return a.lead(ctx, work) })
	})
	return group.Wait()
}

// keep has a group keep the cache and send events until ctx ends.
func (a *Adapter) keep(ctx context.Context, group *errgroup.Group) {
	group.Go(func() error {
		if err := a.cache.Start(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("cache objects of Kubernetes: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		a.events.run(ctx)
		return nil
	})
}

// lead works until ctx ends. What is not a person's to put right is tried again.
func (a *Adapter) lead(ctx context.Context, work Work) error {
	a.log.Info("this replica follows objects of Kubernetes")
	for {
		err := a.compare(ctx, work)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrOtherCluster):
			// Caches that have seen two clusters are no good any more: it is for the next
			// start, with what a person says then.
			a.log.Error("objects of Kubernetes are not followed", "error", err)
			<-ctx.Done()
			return nil
		case err != nil:
			a.log.Warn("following objects of Kubernetes was interrupted, comparing everything anew", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interrupted):
		}
	}
}

// compare looks at everything once, and then at what changes, until ctx ends or the store or
// the cluster is another.
func (a *Adapter) compare(ctx context.Context, work Work) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	a.mu.Lock()
	a.anew = func() { stop(nil) }
	a.mu.Unlock()
	if work.Begin != nil {
		work.Begin()
	}
	if err := a.adopt(ctx, work.Adopt); err != nil || ctx.Err() != nil {
		return err
	}
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return a.guard(running) })
	for _, c := range work.Controllers {
		group.Go(func() error { return a.control(running, c, stop) })
	}
	err := group.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, ErrOtherCluster) {
		return cause
	}
	return err
}

// guard asks again and again whether the API server is still that of the store's cluster. An
// etcd that was lost may be noticed by nobody else: its versions start again, and a watch from
// a version of before tells nothing until they have come that far, and never what is gone.
func (a *Adapter) guard(ctx context.Context) error {
	ticker := time.NewTicker(howOften)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := a.confirm(ctx); errors.Is(err, ErrOtherCluster) {
			return err
		}
	}
}
