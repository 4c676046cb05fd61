package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
)

const (
	// owner is the field manager of what this service writes.
	owner = "damask-servicelb"
	// workers is how many objects of a kind are reconciled at once: commits that come at
	// the same time share a batch.
	workers = 8
)

// Kinds of keys of the store.
const (
	kindService = "service"
	kindSlice   = "endpointslice"
)

// Adapter is a replica's part in bringing objects and store together.
type Adapter struct {
	api    *kube.Adapter
	bucket *bucket.Bucket
	store  *catalog.Store

	services, slices *kube.Feed
	wanting          kube.Waiting // services that want what others have
}

// New returns a replica's part.
func New(api *kube.Adapter) *Adapter {
	a := &Adapter{api: api}
	a.services, a.slices = a.feed(kindService), a.feed(kindSlice)
	return a
}

// feed tells of a kind's objects.
func (a *Adapter) feed(kind string) *kube.Feed {
	return kube.NewFeed(func() (names []types.NamespacedName) {
		for entry := range a.bucket.Scan(kind+".", "") {
			if name, ok := catalog.NameOfKey(entry.Key, kind); ok {
				names = append(names, types.NamespacedName(name))
			}
		}
		return names
	})
}

// Observe learns from changes of the bucket which objects may be different.
func (a *Adapter) Observe(changes []bucket.Change, reset bool) {
	a.api.Observe(changes, reset)
	for _, c := range changes {
		if name, ok := catalog.NameOfKey(c.Key, kindService); ok {
			a.services.Changed(types.NamespacedName(name))
		} else if name, ok := catalog.NameOfKey(c.Key, kindSlice); ok {
			a.slices.Changed(types.NamespacedName(name))
		} else if c.Deleted && catalog.Handed(c.Key) {
			a.services.Changed(a.wanting.All()...)
		}
	}
}

// Run brings objects and the store of the observed bucket together until ctx ends.
func (a *Adapter) Run(ctx context.Context, b *bucket.Bucket, s *catalog.Store) error {
	a.bucket, a.store = b, s
	a.api.Use(b)
	return a.api.Run(ctx, kube.Work{Adopt: a.adopt, Controllers: []kube.Controller{
		{Name: "service", Kinds: []client.Object{&corev1.Service{}}, Stored: a.services, Reconcile: a.service, Workers: workers},
		{Name: "endpointslice", Kinds: []client.Object{&discoveryv1.EndpointSlice{}}, Stored: a.slices, Reconcile: a.slice, Workers: workers},
	}})
}
