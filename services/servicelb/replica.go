package servicelb

import (
	"context"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcserve"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
	servicelbkube "github.com/damask-sdn/damask/services/servicelb/kube"
	"github.com/damask-sdn/damask/services/servicelb/needs"
	"github.com/damask-sdn/damask/services/servicelb/networks"
	"github.com/damask-sdn/damask/services/servicelb/selectors"
	"github.com/damask-sdn/damask/services/servicelb/server"
)

// replica is one of any number of processes that serve one store.
type replica struct {
	numbers        *catalog.Numbers
	bucketReplicas int
	server         *rpcserve.Server
	metrics        *prometheus.Registry
	ipam           grpc.ClientConnInterface // nil: the networks are configured
	tenancy        grpc.ClientConnInterface // nil: endpoints do not follow pods
	cluster        *kube.Adapter            // nil: no Kubernetes
	log            hclog.Logger
}

// observer is a part that learns of changes of the bucket.
type observer interface {
	Observe(changes []bucket.Change, reset bool)
}

// run serves from a connection until ctx ends.
func (r *replica) run(ctx context.Context, nc *nats.Conn) error {
	index, changed, needed := catalog.NewIndex(), selectors.NewDirty(), needs.New()
	parts := []observer{r.numbers, index, changed, needed}
	var following *servicelbkube.Adapter
	if r.cluster != nil {
		following = servicelbkube.New(r.cluster)
		parts = append(parts, following)
	}
	b, err := bucket.Await(ctx, nc, bucket.Config{
		Name: natsd.BucketName(serviceName), Subject: bus.Prefix(serviceName), Replicas: r.bucketReplicas,
		Observe: func(changes []bucket.Change, reset bool) {
			for _, part := range parts {
				part.Observe(changes, reset)
			}
		},
	}, r.log)
	if err != nil || b == nil {
		return err
	}
	store := catalog.New(b, r.numbers, index)
	exhausted := register(r.metrics, r.numbers, index, needed, b)
	r.server.Register(func(on grpc.ServiceRegistrar) {
		server.Register(on, server.Config{Store: store, Exhausted: exhausted.Inc, Log: r.log})
	})
	// The bucket outlives the server, so that calls in progress can finish.
	storeCtx, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return b.Run(storeCtx) })
	followed := make(chan struct{})
	group.Go(func() error {
		defer close(followed)
		if following == nil {
			return nil
		}
		return following.Run(ctx, b, store)
	})
	group.Go(func() error {
		defer stopStore()
		if err := r.server.Run(ctx); err != nil {
			return err
		}
		<-followed // it gives up the lease, so that another need not wait
		return nil
	})
	group.Go(func() error { return r.announce(ctx, b) })
	group.Go(func() error {
		if b.Ready(ctx) == nil {
			needs.Run(ctx, store, needed, r.log)
		}
		return nil
	})
	if r.ipam != nil {
		group.Go(func() error { return networks.Run(ctx, nc, r.ipam, r.numbers.SetServiceNetworks, r.log) })
	}
	if r.tenancy != nil {
		group.Go(func() error {
			if b.Ready(ctx) != nil {
				return nil
			}
			return selectors.Run(ctx, nc, r.tenancy, store, changed, r.log)
		})
	}
	return group.Wait()
}

// announce makes the replica ready. It stays so when the store goes away: questions are
// answered from memory, and whoever wants a change hears of it soon enough to ask another
// replica.
func (r *replica) announce(ctx context.Context, b *bucket.Bucket) error {
	if b.Ready(ctx) == nil {
		r.server.SetReady(true)
	}
	return nil
}
