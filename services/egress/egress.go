// Package egress is the service that decides how a namespace leaves the cluster:
// by which egress IPs, through which nodes, and whereto.
//
// It owns the bucket damask_egress and serves damask.egress.v1. Any number of
// replicas may run on one store: each answers everything, and one of them, the
// one with the lease, decides. It follows ipam (HostSubnets, the address plan)
// and tenancy (VNIDs, pods), and, if a cluster is configured, objects of Kubernetes
// (package kube, without which nothing here knows of them). It must not touch a node.
package egress

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	"github.com/damask-sdn/damask/services/egress/facts"
	"github.com/damask-sdn/damask/services/egress/names"
)

// resolvConf names the DNS servers when the configuration does not.
const resolvConf = "/etc/resolv.conf"

// serviceName is the service's name in identities, buckets and subjects.
const serviceName = "egress"

// Run is the service. It serves until ctx ends, and then lets calls in
// progress finish and returns nil. A store that is away is waited for; what a
// person must put right (an occupied port, a certificate) is an error.
func Run(ctx context.Context, cfg Config, live *daemon.Live[Config], log hclog.Logger) error {
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
	ipam, err := rpcdial.New(rpcdial.Config{Addresses: cfg.IPAM.Servers, Roles: []accessv1.Role{accessv1.Role_ROLE_IPAM}}, source)
	if err != nil {
		return err
	}
	defer func() { _ = ipam.Close() }()
	tenancy, err := rpcdial.New(rpcdial.Config{Addresses: cfg.Tenancy.Servers, Roles: []accessv1.Role{accessv1.Role_ROLE_TENANCY}}, source)
	if err != nil {
		return err
	}
	defer func() { _ = tenancy.Close() }()
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

	r := &replica{
		bucketReplicas: cfg.NATS.Replicas, server: srv, metrics: reg, log: log,
		neighbours: facts.Neighbours{IPAM: ipam, Tenancy: tenancy},
		resolver:   names.NewResolver(cfg.DNS.Servers, resolvConf),
	}
	live.OnChange(func(now Config) { r.resolver.Ask(now.DNS.Servers) })
	if cfg.Kubernetes.Enabled {
		if r.cluster, err = kube.New(cfg.Kubernetes, serviceName, log); err != nil {
			return err
		}
		kube.Register(reg)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return monitor.Run(ctx) })
	group.Go(func() error { return r.run(ctx, nc) })
	return group.Wait()
}
