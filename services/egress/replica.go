package egress

import (
	"context"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcserve"
	"github.com/damask-sdn/damask/services/egress/assign"
	"github.com/damask-sdn/damask/services/egress/facts"
	egresskube "github.com/damask-sdn/damask/services/egress/kube"
	"github.com/damask-sdn/damask/services/egress/liveness"
	"github.com/damask-sdn/damask/services/egress/names"
	"github.com/damask-sdn/damask/services/egress/server"
	"github.com/damask-sdn/damask/services/egress/store"
	"github.com/damask-sdn/damask/services/egress/watch"
)

// replica is one of any number of processes that serve one store.
type replica struct {
	bucketReplicas int
	server         *rpcserve.Server
	metrics        *prometheus.Registry
	neighbours     facts.Neighbours
	resolver       *names.Resolver
	cluster        *kube.Adapter // nil: no Kubernetes
	log            hclog.Logger
}

// observer is a part that learns of changes of the bucket.
type observer interface {
	Observe(changes []bucket.Change, reset bool)
}

// run serves from a connection until ctx ends.
func (r *replica) run(ctx context.Context, nc *nats.Conn) error {
	book, namesBook, lease := facts.New(), names.NewBook(), store.NewLease(nuid.Next())
	parts := []observer{lease, book, namesBook}
	var following *egresskube.Adapter
	if r.cluster != nil {
		following = egresskube.New(r.cluster, r.log)
		parts = append(parts, following)
	}
	b, err := r.open(ctx, nc, parts)
	if err != nil || b == nil {
		return err
	}
	objects, hub := store.New(b), watch.New(book, liveness.DefaultRules(), r.log)
	lease.Use(objects)
	deciding := register(r.metrics, book, b)
	r.server.Register(func(on grpc.ServiceRegistrar) {
		server.Register(on, server.Config{Store: objects, Hub: hub, Log: r.log})
	})
	// The bucket outlives the server, so that calls in progress can finish.
	storeCtx, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	group, ctx := errgroup.WithContext(ctx)
	known, leading := make(chan struct{}), new(sync.WaitGroup) // leading: parts with a lease
	leading.Add(2)
	group.Go(func() error { return b.Run(storeCtx) })
	group.Go(func() error {
		defer stopStore()
		if err := r.server.Run(ctx); err != nil {
			return err
		}
		leading.Wait() // they give up their leases, so that others need not wait
		return nil
	})
	group.Go(func() error { return book.Follow(ctx, nc, r.neighbours, func() { close(known) }, r.log) })
	group.Go(func() error {
		// It stays ready when the store goes away: questions are answered from
		// memory, and whoever wants a change hears of it soon enough to ask
		// another replica.
		if b.Ready(ctx) != nil {
			return nil
		}
		hub.Begin()
		r.server.SetReady(true)
		if !closed(ctx, known) {
			return nil
		}
		return hub.Run(ctx)
	})
	group.Go(func() error {
		defer leading.Done()
		if following == nil {
			return nil
		}
		return following.Run(ctx, b, objects)
	})
	group.Go(func() error {
		defer leading.Done()
		if b.Ready(ctx) != nil || !closed(ctx, known) {
			return nil
		}
		return lease.Hold(ctx, func(ctx context.Context) error {
			r.log.Info("this replica decides")
			deciding.Set(1)
			defer deciding.Set(0)
			hub.Decide(true)
			defer hub.Decide(false)
			return r.decide(ctx, book, namesBook, lease)
		})
	})
	return group.Wait()
}

// open opens the bucket, of whose changes all parts learn. It answers nil if ctx ends first.
func (r *replica) open(ctx context.Context, nc *nats.Conn, parts []observer) (*bucket.Bucket, error) {
	return bucket.Await(ctx, nc, bucket.Config{
		Name: natsd.BucketName(serviceName), Subject: bus.Prefix(serviceName), Replicas: r.bucketReplicas,
		Observe: func(changes []bucket.Change, reset bool) {
			for _, part := range parts {
				part.Observe(changes, reset)
			}
		},
	}, r.log)
}

// closed waits until a channel is closed, and says whether it is: else ctx ended.
func closed(ctx context.Context, c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-ctx.Done():
		return false
	}
}

// decide decides until ctx ends, or the lease is lost.
func (r *replica) decide(ctx context.Context, book *facts.Book, namesBook *names.Book, lease *store.Lease) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return assign.Lead(ctx, book, lease, r.log) })
	group.Go(func() error { return names.Keep(ctx, namesBook, r.resolver, lease, r.log) })
	return group.Wait()
}
