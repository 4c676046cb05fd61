package egress

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/facts"
	"github.com/damask-sdn/damask/services/egress/names"
	"github.com/damask-sdn/damask/services/egress/names/zonetest"
)

// system is a store, a CA, an ipam and a tenancy, and replicas of the service.
type system struct {
	t       testing.TB
	ca      *identitytest.CA
	store   *natsd.Server
	ipam    *ipam
	tenancy *tenancy
	replica []string       // their addresses
	dns     []string       // servers that replicas ask
	zone    *zonetest.Zone // that one of dns serves, on Kubernetes
	objects string         // kubeconfig of the cluster that replicas follow; empty: none
}

// start starts a number of replicas over mutual TLS, on a NATS server of their
// own.
func start(t testing.TB, replicas int) *system {
	t.Helper()
	sys := newSystem(t)
	for range replicas {
		sys.startReplica()
	}
	return sys
}

// newSystem starts everything but replicas.
func newSystem(t testing.TB) *system {
	t.Helper()
	sys := &system{t: t, ca: identitytest.New(t)}
	server, err := natsd.Start(natsd.ServerConfig{StoreDir: t.TempDir(), Listen: "127.0.0.1:0", Sync: natsd.SyncPeriodic},
		sys.ca.Source(t, identitytest.Service(t, "nats")), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	sys.store = server
	sys.startIPAM()
	sys.startTenancy()
	return sys
}

// startReplica starts a replica, and answers what stops it.
func (s *system) startReplica() (stop func()) {
	t := s.t
	t.Helper()
	source, log := s.ca.Source(t, identitytest.Service(t, serviceName)), hclog.NewNullLogger()
	nc := s.connect(identitytest.Service(t, serviceName))
	srv, err := rpcserve.New(rpcserve.Config{Listen: "127.0.0.1:0"}, source, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{
		server: srv, metrics: prometheus.NewRegistry(), log: log,
		neighbours: facts.Neighbours{IPAM: s.ipam.conn, Tenancy: s.tenancy.conn},
		resolver:   names.NewResolver(s.dns, ""),
	}
	if s.objects != "" {
		if r.cluster, err = kube.New(kube.Config{Enabled: true, Kubeconfig: s.objects}, serviceName, log); err != nil {
			t.Fatal(err)
		}
	}
	s.replica = append(s.replica, srv.Addr().String())
	return background(t, func(ctx context.Context) error { return r.run(ctx, nc) })
}

// background runs a part until it is stopped, or the test ends.
func background(t testing.TB, part func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := part(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

func (s *system) connect(id identity.ID) *nats.Conn {
	s.t.Helper()
	nc, err := natsd.Connect([]string{s.store.URL()}, s.ca.Source(s.t, id), hclog.NewNullLogger())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}

// client is the whole API.
type client struct {
	egressv1.EgressIPServiceClient
	egressv1.EgressNodeServiceClient
	egressv1.EgressNetworkPolicyServiceClient
}

// as connects as somebody, to some replicas or to all.
func (s *system) as(id identity.ID, addresses ...string) client {
	s.t.Helper()
	if len(addresses) == 0 {
		addresses = s.replica
	}
	conn, err := rpcdial.New(rpcdial.Config{Addresses: addresses, Roles: []accessv1.Role{accessv1.Role_ROLE_EGRESS}}, s.ca.Source(s.t, id))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return client{egressv1.NewEgressIPServiceClient(conn), egressv1.NewEgressNodeServiceClient(conn), egressv1.NewEgressNetworkPolicyServiceClient(conn)}
}

func (s *system) operator() client { return s.as(identity.Operator("ann")) }

// want sets what a namespace wants.
func (c client) want(t testing.TB, namespace string, ips ...string) *egressv1.NetNamespaceEgress {
	t.Helper()
	answer, err := c.SetNetNamespaceEgress(soon(t), &egressv1.SetNetNamespaceEgressRequest{
		NetNamespaceEgress: &egressv1.NetNamespaceEgress{Namespace: namespace, EgressIps: ips},
	})
	if err != nil {
		t.Fatalf("namespace %s: %v", namespace, err)
	}
	return answer.GetNetNamespaceEgress()
}

// offer sets what a node may host.
func (c client) offer(t testing.TB, h *egressv1.HostSubnetEgress) {
	t.Helper()
	if _, err := c.SetHostSubnetEgress(soon(t), &egressv1.SetHostSubnetEgressRequest{HostSubnetEgress: h}); err != nil {
		t.Fatalf("node %s: %v", h.GetNode(), err)
	}
}

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func fields(err error) []string {
	var list []string
	for _, violation := range rpcerr.List(err) {
		list = append(list, violation.Field)
	}
	return slices.Clip(list)
}
