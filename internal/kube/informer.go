package kube

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Follow tells a handler of a kind's objects from now on. It waits for an API server that
// is away, or has not got the kind yet. synced says whether the handler was told of all
// that there were at first. An error is the context's.
func (a *Adapter) Follow(ctx context.Context, kind client.Object, handler toolscache.ResourceEventHandler) (synced func() bool, err error) {
	for {
		informer, err := a.cache.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err == nil {
			registration, err := informer.AddEventHandler(handler)
			if err == nil {
				return registration.HasSynced, nil
			}
		}
		if ctx.Err() == nil {
			a.log.Debug("the API server does not tell of a kind", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(askAgain):
		}
	}
}

// howOften a kind is asked for that a cluster need not have, and which cluster it is.
const howOften = 10 * time.Second

// await returns when the API server has said whether it has a kind, and, if that is optional,
// when it has it. An error is the context's.
func (a *Adapter) await(ctx context.Context, kind client.Object, optional bool) error {
	for {
		gvk, err := a.client.GroupVersionKindFor(kind)
		if err == nil {
			_, err = a.client.RESTMapper().RESTMapping(gvk.GroupKind(), gvk.Version)
		}
		again := askAgain
		switch {
		case err == nil:
			return nil
		case !meta.IsNoMatchError(err):
		case !optional:
			return nil // Whoever lists it waits, and says what for.
		default:
			again = howOften
		}
		if err := pause(ctx, again); err != nil {
			return err
		}
	}
}
