// Package tenancy is the service that gives namespaces their VNIDs, keeps the
// isolation mode, and knows where pods are.
//
// It owns the bucket damask_tenancy and serves damask.tenancy.v1. Any number of
// replicas may run on one store; see package netnamespace for what they promise
// together. Of Kubernetes only package kube knows; without it everything else works. It
// must not know anything of the nodes' inside.
package tenancy

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
	apiserver "github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	"github.com/damask-sdn/damask/services/tenancy/kube"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

// serviceName is the service's name in identities, buckets and subjects.
const serviceName = "tenancy"

// Run is the service. It serves until ctx ends, and then lets calls in
// progress finish and returns nil. A store that is away is waited for; what a
// person must put right (an occupied port, a certificate) is an error.
func Run(ctx context.Context, cfg Config, log hclog.Logger) error {
	return run(ctx, cfg, vnid.Default(), log)
}

// run is Run with the VNIDs that are handed out: tests of exhaustion have few.
func run(ctx context.Context, cfg Config, span vnid.Range, log hclog.Logger) error {
	source, err := identity.NewSource(cfg.TLS, log.Named("identity"))
	if err != nil {
		return err
	}
	if want, err := identity.Service(serviceName); err != nil || source.ID() != want {
		return fmt.Errorf("certificate %s is that of %s, not of service/%s", cfg.TLS.Certificate, source.ID(), serviceName)
	}
	reg := daemon.NewRegistry()
	srv, err := rpcserve.New(cfg.Config, source, log.Named("grpc"), reg)
	if err != nil {
		return err
	}
	defer srv.Close()
	r := &replica{span: span, initial: cfg.initialMode(), bucketReplicas: cfg.NATS.Replicas, server: srv, metrics: reg, log: log}
	if len(cfg.IPAM.Servers) > 0 {
		ipam, err := rpcdial.New(rpcdial.Config{
			Addresses: cfg.IPAM.Servers, Roles: []accessv1.Role{accessv1.Role_ROLE_IPAM},
		}, source)
		if err != nil {
			return err
		}
		defer func() { _ = ipam.Close() }()
		r.ipam = ipam
	}
	if cfg.Kubernetes.Enabled {
		if r.cluster, err = kube.New(cfg.Kubernetes, r.initial, log); err != nil {
			return err
		}
		apiserver.Register(reg)
	}
	// A process that waits for its store is healthy: a restart would not help.
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
	group.Go(func() error { return r.run(ctx, nc) })
	return group.Wait()
}
