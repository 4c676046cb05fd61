package tenancy

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcserve"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/catchup"
	"github.com/damask-sdn/damask/services/tenancy/departed"
	"github.com/damask-sdn/damask/services/tenancy/isolation"
	"github.com/damask-sdn/damask/services/tenancy/kube"
	"github.com/damask-sdn/damask/services/tenancy/netnamespace"
	"github.com/damask-sdn/damask/services/tenancy/policystore"
	"github.com/damask-sdn/damask/services/tenancy/registry"
	"github.com/damask-sdn/damask/services/tenancy/resolution"
	"github.com/damask-sdn/damask/services/tenancy/server"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

// replica is one of any number of processes that serve one store.
type replica struct {
	span           vnid.Range
	initial        tenancyv1.IsolationMode // of a new cluster; unspecified: what was never set
	bucketReplicas int
	server         *rpcserve.Server
	metrics        *prometheus.Registry
	ipam           grpc.ClientConnInterface // nil: pods of departed nodes stay
	cluster        *kube.Adapter            // nil: no Kubernetes
	source         server.PodSource         // nil: pods are as their agents say
	log            hclog.Logger
}

// run serves from a connection until ctx ends.
func (r *replica) run(ctx context.Context, nc *nats.Conn) error {
	if err := r.span.Validate(); err != nil {
		return err
	}
	numbers, index := netnamespace.NewNumbers(r.span), registry.NewIndex()
	meter := newMeter(r.metrics)
	resolving := resolution.New(nuid.Next(), meter, r.log)
	b, err := bucket.Await(ctx, nc, bucket.Config{
		Name: natsd.BucketName(serviceName), Subject: bus.Prefix(serviceName), Replicas: r.bucketReplicas,
		Observe: func(changes []bucket.Change, reset bool) {
			numbers.Observe(changes, reset)
			index.Observe(changes, reset)
			resolving.Observe(changes, reset)
			if r.cluster != nil {
				r.cluster.Observe(changes, reset)
			}
		},
	}, r.log)
	if err != nil || b == nil {
		return err
	}
	namespaces := netnamespace.New(b, numbers)
	pods := registry.New(b, index, time.Now)
	policies := policystore.New(b)
	if r.cluster != nil {
		numbers.Keep(r.cluster.Kept())
		r.cluster.Use(kube.Store{Bucket: b, Namespaces: namespaces, Pods: pods, Policies: policies, Range: r.span})
		r.source = r.cluster
	}
	counted := register(r.metrics, numbers, index, b)
	r.server.Register(func(on grpc.ServiceRegistrar) {
		server.Register(on, server.Config{
			Bucket: b, Namespaces: namespaces, Pods: pods,
			Policies: policies, Waiter: resolving.NewWaiter(b), Source: r.source,
			Range: r.span, Exhausted: counted.exhausted.Inc, Log: r.log,
		})
	})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.serve(ctx, b, resolving.Run) })
	group.Go(func() error { return r.announce(ctx, b, namespaces) })
	if r.ipam != nil {
		group.Go(func() error {
			if b.Ready(ctx) != nil { // before, no node seems to have pods
				return nil
			}
			return departed.Run(ctx, nc, r.ipam, pods, func(n int) { counted.dropped.Add(float64(n)) }, r.log)
		})
	}
	return group.Wait()
}

// serve runs the bucket, the server, and what one replica at a time does. The bucket outlives
// the server, so that calls in progress can finish.
func (r *replica) serve(ctx context.Context, b *bucket.Bucket, resolve func(context.Context, *bucket.Bucket) error) error {
	storeCtx, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	group, ctx := errgroup.WithContext(ctx)
	var leases sync.WaitGroup // given up, so that another need not wait
	leases.Add(1)
	group.Go(func() error { return b.Run(storeCtx) })
	group.Go(func() error {
		defer stopStore()
		if err := r.server.Run(ctx); err != nil {
			return err
		}
		leases.Wait()
		return nil
	})
	group.Go(func() error {
		defer leases.Done()
		if b.Ready(ctx) != nil { // the end has come
			return nil
		}
		return resolve(ctx, b)
	})
	if r.cluster != nil {
		leases.Add(1)
		group.Go(func() error {
			defer leases.Done()
			if b.Ready(ctx) != nil {
				return nil
			}
			return r.cluster.Run(ctx)
		})
	}
	return group.Wait()
}

// announce makes the replica ready, and says so to clients. It stays ready when
// the store goes away: questions are answered from memory, and whoever wants a
// change hears of it soon enough to ask another replica.
func (r *replica) announce(ctx context.Context, b *bucket.Bucket, namespaces *netnamespace.Store) error {
	for b.Ready(ctx) == nil { // else the end has come
		var err error
		if r.cluster == nil { // Else objects may say otherwise: that default has joined another, which mode it is.
			err = r.begin(ctx, b, namespaces)
		}
		switch {
		case err == nil:
			r.server.SetReady(true)
			return nil
		case ctx.Err() != nil:
			return nil
		case !errors.Is(err, catchup.ErrStoreAway) && !errors.Is(err, bucket.ErrOutcomeUnknown):
			return err
		}
	}
	return nil
}

// begin makes what every cluster has.
func (r *replica) begin(ctx context.Context, b *bucket.Bucket, namespaces *netnamespace.Store) error {
	if r.initial != tenancyv1.IsolationMode_ISOLATION_MODE_UNSPECIFIED {
		if _, err := isolation.Begin(ctx, b, r.initial); err != nil {
			return err
		}
	}
	return namespaces.EnsureDefault(ctx)
}
