package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// forEver is how long a cache may take until it is complete: an API server that is away
// is waited for.
const forEver = 10 * 365 * 24 * time.Hour

// How long after an error an object is reconciled again, at first and at most: an API server
// that was away for an hour must not be waited for as long again.
const (
	retryFirst = 20 * time.Millisecond
	retryMost  = 5 * time.Second
)

// shown is how long the view of the store may take to show what was told of it. It only
// matters when the store was replaced in between, by one that counts anew.
const shown = 5 * time.Second

// Controller compares one object after the other with the store.
type Controller struct {
	// Name of what is reconciled, for logs. Required.
	Name string
	// Kinds are those whose objects matter, all of them by one name. Required.
	Kinds []client.Object
	// Optional says that a cluster need not have the first of the kinds, for which it is
	// then waited.
	Optional bool
	// Stored tells what changes in the store. Required.
	Stored *Feed
	// Reconcile makes what there is under a name and the store agree. It is called with
	// the same name by one goroutine at a time, when the view of the store shows all that
	// Stored told, and again, later and later, after an error: see also Later.
	Reconcile func(ctx context.Context, name types.NamespacedName) error
	// Workers is how many are reconciled at once; 0: one.
	Workers int
}

// Later is answered by a Controller's Reconcile when nothing is wrong, and the object must be
// looked at again after so long, also if nothing tells of a change.
type Later time.Duration

// Error says how long.
func (l Later) Error() string { return "it is looked at again after " + time.Duration(l).String() }

// control runs a controller until ctx ends. stop ends all of them.
func (a *Adapter) control(ctx context.Context, c Controller, stop context.CancelCauseFunc) error {
	for i, kind := range c.Kinds {
		if a.await(ctx, kind, c.Optional && i == 0) != nil {
			return nil
		}
	}
	again := true
	run, err := controller.NewUnmanaged(c.Name, controller.Options{
		Reconciler: a.reconciler(c, stop), MaxConcurrentReconciles: max(1, c.Workers), Logger: a.logr, CacheSyncTimeout: forEver,
		SkipNameValidation: &again, // Whoever leads again begins anew.
		RateLimiter:        workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](retryFirst, retryMost),
	})
	if err != nil {
		return fmt.Errorf("reconcile %s: %w", c.Name, err)
	}
	sources := []source.Source{c.Stored.source()}
	for _, kind := range c.Kinds {
		sources = append(sources, source.Kind(a.cache, kind, &handler.EnqueueRequestForObject{}))
	}
	for _, s := range sources {
		if err := run.Watch(s); err != nil {
			return fmt.Errorf("reconcile %s: %w", c.Name, err)
		}
	}
	if err := run.Start(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("reconcile %s: %w", c.Name, err)
	}
	return nil
}

// reconciler waits for the view: of a change of the store everybody hears before the view
// shows it. Whoever finds that the cluster is another stops all.
func (a *Adapter) reconciler(c Controller, stop context.CancelCauseFunc) reconcile.Func {
	return func(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
		err := a.viewed(ctx)
		if err == nil {
			err = c.Reconcile(ctx, r.NamespacedName)
		}
		if errors.Is(err, ErrOtherCluster) {
			stop(err)
		}
		var later Later
		if errors.As(err, &later) {
			return reconcile.Result{RequeueAfter: time.Duration(later)}, nil
		}
		return reconcile.Result{}, err
	}
}

// viewed waits until the view of the store, if there is one, shows all that was told of it.
func (a *Adapter) viewed(ctx context.Context) error {
	if a.bucket == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, shown)
	defer cancel()
	return a.bucket.Wait(ctx, a.observed.Load())
}
