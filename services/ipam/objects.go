package ipam

import (
	"context"
	"errors"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nuid"
	"golang.org/x/sync/errgroup"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/lease"
	"github.com/damask-sdn/damask/services/ipam/allocation"
	adapter "github.com/damask-sdn/damask/services/ipam/kube"
)

// leaseKey is the key of the bucket under which replicas choose the one that writes to
// Kubernetes.
const leaseKey = "kube.lease"

// objects is the replica's part in Kubernetes; nil: it has none.
type objects struct {
	api     *kube.Adapter
	adapter *adapter.Adapter
	lease   *lease.Lease
	log     hclog.Logger
}

func newObjects(cfg kube.Config, log hclog.Logger) (*objects, error) {
	if !cfg.Enabled {
		return nil, nil
	}
	api, err := kube.New(cfg, service, log)
	if err != nil {
		return nil, err
	}
	return &objects{api: api, adapter: adapter.New(api, log), lease: lease.New(leaseKey, nuid.Next()), log: log}, nil
}

func (o *objects) observe(changes []bucket.Change, reset bool) {
	if o != nil {
		o.lease.Observe(changes, reset)
		o.adapter.Observe(changes, reset)
	}
}

// use ties it to a store, in which no unknown node gets a subnet before objects were read.
func (o *objects) use(store *allocation.Store, b *bucket.Bucket) {
	if o != nil {
		store.HoldWhile(kube.Adopted)
		o.adapter.Use(store, b)
		o.lease.Use(b)
	}
}

func (o *objects) run(ctx context.Context, b *bucket.Bucket) error {
	if o == nil {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return o.api.Run(ctx) })
	group.Go(func() error {
		if b.Ready(ctx) != nil { // the end has come
			return nil
		}
		return o.lease.Hold(ctx, o.adapter.Lead)
	})
	err := group.Wait()
	if errors.Is(err, kube.ErrOtherCluster) {
		// A person must decide. Nodes are served meanwhile.
		o.log.Error("objects of Kubernetes are not followed", "error", err)
		return nil
	}
	return err
}
