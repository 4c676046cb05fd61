// Package servicelb is the service that keeps Services and their endpoints,
// and hands out cluster IPs, node ports and load-balancer addresses.
//
// It owns the bucket damask_servicelb and serves damask.servicelb.v1. Any number
// of replicas may run on one store; see package catalog for what they promise
// together. Which backends a node uses is computed on the node, by
// internal/serviceview, from what is kept here. Objects of
// Kubernetes are followed by package kube, if a cluster is configured. It must not know
// anything of the nodes' inside.
package servicelb

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
)

// serviceName is the service's name in identities, buckets and subjects.
const serviceName = "servicelb"

// Run is the service. It serves until ctx ends, and then lets calls in
// progress finish and returns nil. A store that is away is waited for; what a
// person must put right (an occupied port, a certificate) is an error.
func Run(ctx context.Context, cfg Config, log hclog.Logger) error {
	numbers, err := cfg.numbers()
	if err != nil {
		return err
	}
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
	r := &replica{numbers: numbers, bucketReplicas: cfg.NATS.Replicas, server: srv, metrics: reg, log: log}
	if cfg.Kubernetes.Enabled {
		if r.cluster, err = kube.New(cfg.Kubernetes, serviceName, log); err != nil {
			return err
		}
		kube.Register(reg)
	}
	if len(cfg.ClusterIPs) == 0 && !cfg.Kubernetes.Enabled {
		conn, err := dial(cfg.IPAM, accessv1.Role_ROLE_IPAM, source)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		r.ipam = conn
	}
	if cfg.Selectors {
		conn, err := dial(cfg.Tenancy, accessv1.Role_ROLE_TENANCY, source)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		r.tenancy = conn
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

func dial(servers Servers, role accessv1.Role, source *identity.Source) (*grpc.ClientConn, error) {
	return rpcdial.New(rpcdial.Config{Addresses: servers.Servers, Roles: []accessv1.Role{role}}, source)
}
