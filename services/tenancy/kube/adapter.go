package kube

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/kube"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/netnamespace"
	"github.com/damask-sdn/damask/services/tenancy/policystore"
	"github.com/damask-sdn/damask/services/tenancy/registry"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

// manager owns the fields that this adapter applies.
const manager = "damask-tenancy"

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
	kube    *kube.Adapter
	initial tenancyv1.IsolationMode // of a new cluster; unspecified: what was never set
	store   Store
	stored  *stored
	kept    *kept
	pods    *pods
	lodgers *lodgers
	log     hclog.Logger
}

// New returns a replica's part. The initial mode is that of a cluster whose store and
// ClusterNetwork know of none. It does not speak to the API server yet.
func New(cfg kube.Config, initial tenancyv1.IsolationMode, log hclog.Logger) (*Adapter, error) {
	to, err := kube.New(cfg, "tenancy", log)
	if err != nil {
		return nil, err
	}
	stored := newStored()
	return &Adapter{
		kube: to, initial: initial, stored: stored, kept: newKept(), pods: newPods(to), lodgers: newLodgers(stored.pods.Changed), log: log.Named("kube"),
	}, nil
}

// Observe takes over changes of the bucket.
func (a *Adapter) Observe(changes []bucket.Change, reset bool) {
	a.kube.Observe(changes, reset)
	a.stored.observe(changes)
}

// Use ties the adapter to the store. It is called once, before Run.
func (a *Adapter) Use(store Store) {
	a.store = store
	a.stored.use(store.Bucket, a.nodeReported)
	a.kube.Use(store.Bucket)
}

// Kept is which VNIDs are in NetNamespaces.
func (a *Adapter) Kept() netnamespace.Kept { return a.kept }

// Describe puts the labels and ports of a reported pod into the report: see
// server.PodSource.
func (a *Adapter) Describe(ctx context.Context, report *tenancyv1.Pod, patience time.Duration) error {
	return a.pods.describe(ctx, report, patience)
}

// Run follows the cluster until ctx ends, and brings objects and store together whenever this
// replica has the lease.
func (a *Adapter) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.kept.follow(ctx, a.kube) })
	group.Go(func() error { return a.pods.follow(ctx) })
	group.Go(func() error { return a.lodgers.follow(ctx, a.kube) })
	group.Go(func() error {
		return a.kube.Run(ctx, kube.Work{Adopt: a.adopt, Controllers: []kube.Controller{
			a.namespaces(), a.mode(), a.labels(),
			a.policies(networkPolicy), a.policies(adminPolicy), a.policies(baselinePolicy), a.policies(clusterPolicy),
		}})
	})
	return group.Wait()
}
