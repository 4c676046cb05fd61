package kube

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/lease"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
)

const (
	// leaseKey says which replica writes what objects say.
	leaseKey = "kube.lease"
	// owner is the field manager of what this service writes.
	owner = "damask-servicelb"
	// workers is how many objects of a kind are reconciled at once: commits that come at
	// the same time share a batch.
	workers = 8
)

// Adapter is a replica's part in bringing objects and store together.
type Adapter struct {
	api    *kube.Adapter
	lease  *lease.Lease
	bucket *bucket.Bucket
	store  *catalog.Store
	log    hclog.Logger

	services, slices *kube.Ledger
	wanting          wanting
	observed         atomic.Uint64 // the sequence up to which changes were told
}

// New returns a replica's part. id is unique.
func New(api *kube.Adapter, id string, log hclog.Logger) *Adapter {
	return &Adapter{api: api, lease: lease.New(leaseKey, id), log: log.Named("kube"), services: kube.NewLedger(), slices: kube.NewLedger()}
}

// Observe learns from changes of the bucket which objects may be different.
func (a *Adapter) Observe(changes []bucket.Change, reset bool) {
	a.lease.Observe(changes, reset)
	newest := a.observed.Load()
	if reset {
		newest = 0
		a.services.Forget()
		a.slices.Forget()
	}
	for _, c := range changes {
		newest = max(newest, c.Revision)
		if name, ok := catalog.NameOfKey(c.Key, "service"); ok {
			a.services.Take(c, types.NamespacedName(name))
		} else if name, ok := catalog.NameOfKey(c.Key, "endpointslice"); ok {
			a.slices.Take(c, types.NamespacedName(name))
		} else if c.Deleted && catalog.Handed(c.Key) {
			a.services.Changed(a.wanting.all()...)
		}
	}
	a.observed.Store(newest)
}

// Run brings objects and the store of the observed bucket together until ctx ends, while
// this replica has the lease. It returns early only if this is not the cluster whose objects
// the store has: a person must decide then.
func (a *Adapter) Run(ctx context.Context, b *bucket.Bucket, s *catalog.Store) error {
	a.bucket, a.store = b, s
	a.lease.Use(b)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.api.Run(ctx) })
	group.Go(func() error {
		if a.bucket.Ready(ctx) != nil {
			return nil
		}
		return a.lease.Hold(ctx, a.lead)
	})
	err := group.Wait()
	if errors.Is(err, kube.ErrOtherCluster) {
		a.log.Error("objects of Kubernetes are not followed", "error", err)
		return nil
	}
	return err
}

func (a *Adapter) lead(ctx context.Context) error {
	a.log.Info("this replica follows objects of Kubernetes")
	if err := a.api.Adopt(ctx, a.bucket, a.adopt); err != nil || ctx.Err() != nil {
		return err
	}
	return a.api.Lead(ctx, a.bucket,
		a.controller("service", &corev1.Service{}, a.services, a.service),
		a.controller("endpointslice", &discoveryv1.EndpointSlice{}, a.slices, a.slice),
	)
}

// controller reconciles one kind: when an object changed, and when the store did.
func (a *Adapter) controller(name string, kind client.Object, l *kube.Ledger, one func(context.Context, types.NamespacedName) error) kube.Controller {
	return kube.Controller{
		Name: name, Workers: workers, Sources: []source.Source{a.api.Of(kind), l.Source()},
		Reconcile: func(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
			// Of a change of the store everybody hears before the view shows it.
			if err := a.bucket.Wait(ctx, a.observed.Load()); err != nil {
				return reconcile.Result{}, err
			}
			return reconcile.Result{}, one(ctx, r.NamespacedName)
		},
	}
}
