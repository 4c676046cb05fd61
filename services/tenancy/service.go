package tenancy

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/rpcserve"
	"github.com/damask-sdn/damask/services/tenancy/netnamespace"
	"github.com/damask-sdn/damask/services/tenancy/registry"
	"github.com/damask-sdn/damask/services/tenancy/server"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

// Where the service's state is, and where its changes appear.
const (
	bucketName    = "damask_tenancy"
	changeSubject = "damask.tenancy.v1"
)

// service is one replica.
type service struct {
	nc         *nats.Conn
	bucket     *bucket.Bucket
	namespaces *netnamespace.Store
	server     *rpcserve.Server
	ready      atomic.Bool
}

// deployment is what a replica runs on.
type deployment struct {
	nc       *nats.Conn
	replicas int // of the bucket
	listen   rpcserve.Config
	source   *identity.Source
	// span is which VNIDs are handed out: vnid.Default but in tests.
	span    vnid.Range
	metrics *prometheus.Registry
}

// newService opens the bucket and the gRPC port.
func newService(ctx context.Context, d deployment, log hclog.Logger) (*service, error) {
	if err := d.span.Validate(); err != nil {
		return nil, err
	}
	js, err := jetstream.New(d.nc)
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	numbers, index := netnamespace.NewNumbers(d.span), registry.NewIndex()
	b, err := bucket.Open(ctx, js, d.nc, bucket.Config{
		Name: bucketName, Subject: changeSubject, Replicas: d.replicas,
		Observe: func(changes []bucket.Change, reset bool) {
			numbers.Observe(changes, reset)
			index.Observe(changes, reset)
		},
	}, log)
	if err != nil {
		return nil, err
	}
	srv, err := rpcserve.New(d.listen, d.source, log.Named("rpc"), d.metrics)
	if err != nil {
		return nil, err
	}
	s := &service{nc: d.nc, bucket: b, namespaces: netnamespace.New(b, numbers), server: srv}
	srv.Register(func(on grpc.ServiceRegistrar) {
		server.Register(on, server.Config{
			Bucket: b, Namespaces: s.namespaces, Pods: registry.New(b, index, time.Now),
			Range: d.span, Exhausted: register(d.metrics, numbers, index, b), Log: log,
		})
	})
	return s, nil
}

// run serves until ctx ends.
func (s *service) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.bucket.Run(ctx) })
	group.Go(func() error { return s.server.Run(ctx) })
	group.Go(func() error { return s.prepare(ctx) })
	return group.Wait()
}

// prepare makes the replica ready for calls, and says so while it can reach
// the store: without it, another replica answers better.
func (s *service) prepare(ctx context.Context) error {
	changed := s.nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.DISCONNECTED)
	defer s.nc.RemoveStatusListener(changed)
	if err := s.bucket.Ready(ctx); err != nil {
		return ending(ctx, err)
	}
	if err := s.namespaces.EnsureDefault(ctx); err != nil {
		return ending(ctx, err)
	}
	s.ready.Store(true)
	for {
		s.server.SetReady(s.nc.IsConnected())
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// ending answers nil for what failed only because the service stops.
func ending(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// healthy says why a restart might help.
func (s *service) healthy() error {
	if !s.ready.Load() {
		return errors.New("still reading the store")
	}
	return nil
}
