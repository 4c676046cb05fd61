// Package ipam is the service that keeps the cluster's address plan and gives
// each node its pod subnet.
//
// It owns the bucket damask_ipam and serves damask.ipam.v1. Any number of
// replicas may run on one store; see package allocation for what they promise
// together. What it has of Kubernetes is in package kube, which nothing else here needs;
// it must not know anything of the nodes' inside.
package ipam

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"
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

// service is the service's name in identities, buckets and subjects.
const service = "ipam"

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

	objects, err := newObjects(cfg.Kubernetes, log)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return monitor.Run(ctx) })
	group.Go(func() error {
		b, err := bucket.Await(ctx, nc, bucket.Config{
			Name: natsd.BucketName(service), Subject: bus.Prefix(service), Replicas: cfg.NATS.Replicas, Observe: objects.observe,
		}, log)
		if err != nil || b == nil {
			return err
		}
		store := allocation.New(b, metrics)
		objects.use(store, b)
		srv.Register(func(r grpc.ServiceRegistrar) { server.Register(r, store) })
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return serve(ctx, srv, b) })
		group.Go(func() error { return objects.run(ctx, b) })
		return group.Wait()
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
