// Package ipam is the service that keeps the cluster's address plan and gives
// each node its pod subnet.
//
// It owns the bucket damask_ipam and serves damask.ipam.v1. Any number of
// replicas may run on one store; see package allocation for what they promise
// together. It must not know Kubernetes, nor anything of the nodes' inside.
package ipam

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcserve"
	"github.com/damask-sdn/damask/services/ipam/allocation"
	"github.com/damask-sdn/damask/services/ipam/server"
)

const (
	// service is the service's name in identities, buckets and subjects.
	service = "ipam"
	// openTime bounds one attempt to open the bucket, and openPause is what
	// lies between two.
	openTime  = 5 * time.Second
	openPause = 500 * time.Millisecond
)

// Run is the service. It serves until ctx ends, and then lets calls in
// progress finish and returns nil. A store that is away is waited for; what a
// person must put right (an occupied port, a certificate) is an error.
func Run(ctx context.Context, cfg Config, log hclog.Logger) error {
	source, err := identity.NewSource(cfg.TLS, log.Named("identity"))
	if err != nil {
		return err
	}
	if want, err := identity.Service(service); err != nil || source.ID() != want {
		return fmt.Errorf("certificate %s is that of %s, not of service/%s", cfg.TLS.Certificate, source.ID(), service)
	}
	reg := daemon.NewRegistry()
	metrics, err := allocation.NewMetrics(reg)
	if err != nil {
		return err
	}
	srv, err := rpcserve.New(cfg.Config, source, log.Named("grpc"), reg)
	if err != nil {
		return err
	}
	defer srv.Close()
	monitor, err := daemon.NewMonitor(cfg.Metrics, reg, func() error { return nil })
	if err != nil {
		return err
	}
	defer monitor.Close()
	nc, closeStore, err := natsd.Open(cfg.NATS, source, log)
	if err != nil {
		return err
	}
	defer closeStore()

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return monitor.Run(ctx) })
	group.Go(func() error {
		b, err := openBucket(ctx, nc, cfg.NATS.Replicas, log)
		if err != nil || b == nil {
			return err
		}
		srv.Register(func(r grpc.ServiceRegistrar) { server.Register(r, allocation.New(b, metrics)) })
		return serve(ctx, srv, b)
	})
	return group.Wait()
}

// serve runs the bucket and the server. The bucket outlives the server, so
// that calls in progress can finish.
func serve(ctx context.Context, srv *rpcserve.Server, b *bucket.Bucket) error {
	storeCtx, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return b.Run(storeCtx) })
	group.Go(func() error {
		if b.Ready(ctx) == nil { // else the end has come
			srv.SetReady(true)
		}
		return nil
	})
	group.Go(func() error {
		defer stopStore()
		return srv.Run(ctx)
	})
	return group.Wait()
}

// openBucket waits for the store. It answers nil without an error when ctx
// ends first.
func openBucket(ctx context.Context, nc *nats.Conn, replicas int, log hclog.Logger) (*bucket.Bucket, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	cfg := bucket.Config{Name: natsd.BucketName(service), Subject: bus.Prefix(service), Replicas: replicas}
	for warned := false; ; {
		attempt, cancel := context.WithTimeout(ctx, openTime)
		b, err := bucket.Open(attempt, js, nc, cfg, log)
		cancel()
		switch {
		case err == nil:
			return b, nil
		case ctx.Err() != nil:
			return nil, nil
		case !warned:
			log.Warn("the store is not ready, trying again", "error", err)
			warned = true
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(openPause):
		}
	}
}
