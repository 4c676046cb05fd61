package kube

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/kube/networkv1"
	"github.com/damask-sdn/damask/internal/lease"
	"github.com/damask-sdn/damask/services/egress/store"
)

const (
	// leaseKey says which replica writes what objects say.
	leaseKey = "kube.lease"
	// owner is the field manager of what this service writes.
	owner = "damask-egress"
	// workers is how many objects of a kind are reconciled at once: commits that come at
	// the same time share a batch.
	workers = 4
)

// Adapter is a replica's part in bringing objects and store together.
type Adapter struct {
	api    *kube.Adapter
	lease  *lease.Lease
	bucket *bucket.Bucket
	store  *store.Store
	log    hclog.Logger

	hostSubnets, netNamespaces, policies *kube.Ledger
	waiting                              waiting
	hosts                                hosts
	observed                             atomic.Uint64 // the sequence up to which changes were told
}

// New returns a replica's part. id is unique.
func New(api *kube.Adapter, id string, log hclog.Logger) *Adapter {
	return &Adapter{
		api: api, lease: lease.New(leaseKey, id), log: log.Named("kube"),
		hostSubnets: kube.NewLedger(), netNamespaces: kube.NewLedger(), policies: kube.NewLedger(),
	}
}

// Observe learns from changes of the bucket which objects may be different.
func (a *Adapter) Observe(changes []bucket.Change, reset bool) {
	a.lease.Observe(changes, reset)
	newest := a.observed.Load()
	if reset {
		newest = 0
		a.hostSubnets.Forget()
		a.netNamespaces.Forget()
		a.policies.Forget()
	}
	for _, c := range changes {
		newest = max(newest, c.Revision)
		a.observe(c)
	}
	a.observed.Store(newest)
}

func (a *Adapter) observe(c bucket.Change) {
	for _, kind := range []string{store.KindHostSubnet, store.KindHosting, store.KindNode} {
		if names, ok := store.NamesOf(c.Key, kind); ok && len(names) == 1 {
			a.hostSubnets.Take(c, types.NamespacedName{Name: names[0]})
			return
		}
	}
	for _, kind := range []string{store.KindNetNamespace, store.KindAssignment} {
		if names, ok := store.NamesOf(c.Key, kind); ok && len(names) > 0 {
			a.netNamespaces.Take(c, types.NamespacedName{Name: names[0]})
			return
		}
	}
	if names, ok := store.NamesOf(c.Key, store.KindPolicy); ok && len(names) == 2 {
		a.policies.Take(c, types.NamespacedName{Namespace: names[0], Name: names[1]})
		return
	}
	if ip, ok := store.AddressOf(c.Key); ok && c.Deleted {
		a.netNamespaces.Changed(a.waiting.of(ip)...)
	}
}

// Run brings objects and the store of the observed bucket together until ctx ends, while this replica has the lease.
// It returns early only if this is not the cluster whose objects the store has: a person
// must decide then.
func (a *Adapter) Run(ctx context.Context, b *bucket.Bucket, s *store.Store) error {
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
	a.hosts.forget()
	if err := a.api.Adopt(ctx, a.bucket, a.adopt); err != nil || ctx.Err() != nil {
		return err
	}
	return a.api.Lead(ctx, a.bucket,
		a.controller("hostsubnet", &networkv1.HostSubnet{}, a.hostSubnets, a.hostSubnet),
		a.controller("netnamespace", &networkv1.NetNamespace{}, a.netNamespaces, a.netNamespace),
		a.controller("egressnetworkpolicy", &networkv1.EgressNetworkPolicy{}, a.policies, a.policy),
	)
}

// controller reconciles one kind: when an object changed, and when the store did.
func (a *Adapter) controller(name string, kind client.Object, l *kube.Ledger, one func(context.Context, types.NamespacedName) (reconcile.Result, error)) kube.Controller {
	return kube.Controller{
		Name: name, Workers: workers, Sources: []source.Source{a.api.Of(kind), l.Source()},
		Reconcile: func(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
			// Of a change of the store everybody hears before the view shows it.
			if err := a.bucket.Wait(ctx, a.observed.Load()); err != nil {
				return reconcile.Result{}, err
			}
			return one(ctx, r.NamespacedName)
		},
	}
}
