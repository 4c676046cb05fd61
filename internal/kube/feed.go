package kube

import (
	"context"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// Feed tells controllers what changed in a service's store, by the names of the objects
// that it belongs to. What changes while nobody listens is not kept: who begins to listen is
// told all names there are.
type Feed struct {
	all func() []types.NamespacedName

	mu     sync.Mutex
	queues []queue
}

// NewFeed returns a feed. all answers the names of everything that the store has.
func NewFeed(all func() []types.NamespacedName) *Feed { return &Feed{all: all} }

// Changed says that something may be different. It never waits, and may be called by a
// bucket's observer.
func (f *Feed) Changed(names ...types.NamespacedName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, q := range f.queues {
		for _, name := range names {
			q.Add(reconcile.Request{NamespacedName: name})
		}
	}
}

// source is the feed as a controller listens to it.
func (f *Feed) source() source.Source {
	return source.Func(func(ctx context.Context, q queue) error {
		f.mu.Lock()
		f.queues = append(f.queues, q)
		f.mu.Unlock()
		context.AfterFunc(ctx, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.queues = slices.DeleteFunc(f.queues, func(other queue) bool { return other == q })
		})
		for _, name := range f.all() {
			q.Add(reconcile.Request{NamespacedName: name})
		}
		return nil
	})
}
