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
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcserve"
	"github.com/damask-sdn/damask/services/ipam/allocation"
	ipamkube "github.com/damask-sdn/damask/services/ipam/kube"
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

	var following *ipamkube.Adapter // nil: no Kubernetes
	var observe bucket.Observer
	if cfg.Kubernetes.Enabled {
		api, err := kube.New(cfg.Kubernetes, service, log)
		if err != nil {
			return err
		}
		kube.Register(reg)
		following = ipamkube.New(api, cfg.InitialNetwork.plan(), log)
		observe = following.Observe
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return monitor.Run(ctx) })
	group.Go(func() error {
		b, err := bucket.Await(ctx, nc, bucket.Config{
			Name: natsd.BucketName(service), Subject: bus.Prefix(service), Replicas: cfg.NATS.Replicas, Observe: observe,
		}, log)
		if err != nil || b == nil {
			return err
		}
		store := allocation.New(b, metrics)
		if following != nil {
			store.HoldWhile(kube.Adopted)
		}
		srv.Register(func(r grpc.ServiceRegistrar) { server.Register(r, store) })
		return serve(ctx, srv, b, func(ctx context.Context) error {
			if following == nil {
				return nil
			}
			return following.Run(ctx, b, store)
		})
	})
	return group.Wait()
}

// serve runs the bucket, the server and what follows objects. The bucket outlives the others,
// so that calls in progress can finish, and a lease is given up.
func serve(ctx context.Context, srv *rpcserve.Server, b *bucket.Bucket, follow func(context.Context) error) error {
	storeCtx, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return b.Run(storeCtx) })
	group.Go(func() error {
		if b.Ready(ctx) == nil { // else the end has come
			srv.SetReady(true)
		}
		return nil
	})
	followed := make(chan struct{})
	group.Go(func() error {
		defer close(followed)
		return follow(ctx)
	})
	group.Go(func() error {
		defer stopStore()
		if err := srv.Run(ctx); err != nil {
			return err
		}
		<-followed // so that another need not wait for the lease
		return nil
	})
	return group.Wait()
}
