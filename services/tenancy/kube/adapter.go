package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/lease"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/netnamespace"
	"github.com/damask-sdn/damask/services/tenancy/policystore"
	"github.com/damask-sdn/damask/services/tenancy/registry"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

const (
	// leaseKey is where the replicas agree on who writes.
	leaseKey = "kube.lease"
	// manager owns the fields that this adapter applies.
	manager = "damask-tenancy"
	// retryAfter is the pause after a store that did not answer.
	retryAfter = 200 * time.Millisecond
)

// Store is what objects are compared with.
type Store struct {
	Bucket     *bucket.Bucket
	Namespaces *netnamespace.Store
	Pods       *registry.Registry
	Policies   *policystore.Store
	// Range is which VNIDs may be taken over from an object.
	Range vnid.Range
}

// Adapter is a replica's part in bringing both together.
type Adapter struct {
	kube   *kube.Adapter
	store  Store
	lease  *lease.Lease
	stored *stored
	kept   *kept
	pods   *pods
	log    hclog.Logger
}

// New returns a replica's part. id is unique. It does not speak to the API server yet.
func New(cfg kube.Config, id string, log hclog.Logger) (*Adapter, error) {
	to, err := kube.New(cfg, "tenancy", log)
	if err != nil {
		return nil, err
	}
	return &Adapter{
		kube: to, lease: lease.New(leaseKey, id), stored: newStored(), kept: newKept(), pods: newPods(to), log: log.Named("kube"),
	}, nil
}

// Observe takes over changes of the bucket.
func (a *Adapter) Observe(changes []bucket.Change, reset bool) {
	a.lease.Observe(changes, reset)
	a.stored.observe(changes, reset)
}

// Use ties the adapter to the store. It is called once, before Run.
func (a *Adapter) Use(store Store) {
	a.store = store
	a.stored.use(store.Bucket)
	a.lease.Use(store.Bucket)
}

// Kept is which VNIDs are in NetNamespaces.
func (a *Adapter) Kept() netnamespace.Kept { return a.kept }

// Describe puts the labels and ports of a reported pod into the report: see
// server.PodSource.
func (a *Adapter) Describe(ctx context.Context, report *tenancyv1.Pod, patience time.Duration) error {
	return a.pods.describe(ctx, report, patience)
}

// Run follows the cluster until ctx ends, and writes whenever this replica has the lease.
// The bucket's view has caught up once. A cluster that is another than the store's is not
// followed.
func (a *Adapter) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.kube.Run(ctx) })
	group.Go(func() error { return a.kept.follow(ctx, a.kube) })
	group.Go(func() error { return a.pods.follow(ctx) })
	group.Go(func() error { return a.lease.Hold(ctx, a.lead) })
	return group.Wait()
}

// lead writes until ctx ends. What is not a person's to put right is tried again.
func (a *Adapter) lead(ctx context.Context) error {
	a.log.Info("this replica writes to Kubernetes")
	for {
		err := a.control(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, kube.ErrOtherCluster):
			// A person must put that right, and what the store has is served meanwhile.
			a.log.Error("no objects are followed", "error", err)
			<-ctx.Done()
			return nil
		case err != nil:
			a.log.Warn("following the cluster was interrupted, comparing everything anew", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryAfter):
		}
	}
}

func (a *Adapter) control(ctx context.Context) error {
	if err := a.kube.Adopt(ctx, a.store.Bucket, a.adopt); err != nil || ctx.Err() != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return a.kube.Lead(ctx, a.store.Bucket, a.namespaces(), a.mode(), a.labels(), a.policies(networkPolicy))
	})
	for _, kind := range []policyKind{adminPolicy, baselinePolicy, clusterPolicy} {
		group.Go(func() error {
			if err := a.kube.Await(ctx, kind.object()); err != nil {
				return err
			}
			return a.kube.Lead(ctx, a.store.Bucket, a.policies(kind))
		})
	}
	return group.Wait()
}

// shown returns when the view of the store has everything that the reconciler was told of.
func (a *Adapter) shown(ctx context.Context) error {
	if err := a.store.Bucket.Wait(ctx, a.stored.newest.Load()); err != nil {
		return fmt.Errorf("wait for the store: %w", err)
	}
	return nil
}
