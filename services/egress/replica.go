package egress

import (
	"context"

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
	"github.com/damask-sdn/damask/services/egress/assign"
	"github.com/damask-sdn/damask/services/egress/facts"
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
	log            hclog.Logger
}

// run serves from a connection until ctx ends.
func (r *replica) run(ctx context.Context, nc *nats.Conn) error {
	book, namesBook, lease := facts.New(), names.NewBook(), store.NewLease(nuid.Next())
	b, err := bucket.Await(ctx, nc, bucket.Config{
		Name: natsd.BucketName(serviceName), Subject: bus.Prefix(serviceName), Replicas: r.bucketReplicas,
		Observe: func(changes []bucket.Change, reset bool) {
			lease.Observe(changes, reset)
			book.Observe(changes, reset)
			namesBook.Observe(changes, reset)
		},
	}, r.log)
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
	known, leaderGone := make(chan struct{}), make(chan struct{})
	group.Go(func() error { return b.Run(storeCtx) })
	group.Go(func() error {
		defer stopStore()
		if err := r.server.Run(ctx); err != nil {
			return err
		}
		<-leaderGone // it gives up the lease, so that another need not wait
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
		select {
		case <-known:
			return hub.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error {
		defer close(leaderGone)
		if b.Ready(ctx) != nil {
			return nil
		}
		select {
		case <-known:
		case <-ctx.Done():
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

// decide decides until ctx ends, or the lease is lost.
func (r *replica) decide(ctx context.Context, book *facts.Book, namesBook *names.Book, lease *store.Lease) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return assign.Lead(ctx, book, lease, r.log) })
	group.Go(func() error { return names.Keep(ctx, namesBook, r.resolver, lease, r.log) })
	return group.Wait()
}
