package tenancy

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/server"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

// system is a service with its store, and a CA for its callers.
type system struct {
	t       *testing.T
	ca      *identitytest.CA
	address string
	metrics *prometheus.Registry

	store    *natsd.Server
	storeDir string
	ipam     grpc.ClientConnInterface // what replicas are told of ipam
	source   server.PodSource         // and who knows pods
	initial  tenancyv1.IsolationMode  // and with which mode a new cluster begins
}

// startStore starts the NATS server, on its old content if it has any.
func (s *system) startStore(listen string) {
	s.t.Helper()
	store, err := natsd.Start(natsd.ServerConfig{StoreDir: s.storeDir, Listen: listen, Sync: natsd.SyncPeriodic},
		s.ca.Source(s.t, identitytest.Service(s.t, "nats")), hclog.NewNullLogger())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(store.Stop)
	s.store = store
}

// start starts one replica over mutual TLS, on a NATS server of its own.
func start(t *testing.T, span vnid.Range) *system {
	t.Helper()
	sys := newSystem(t)
	sys.address = sys.startReplica(span, sys.metrics)
	return sys
}

// newSystem starts a NATS server, and no replica.
func newSystem(t *testing.T) *system {
	t.Helper()
	sys := &system{t: t, ca: identitytest.New(t), metrics: prometheus.NewRegistry(), storeDir: t.TempDir()}
	sys.startStore("127.0.0.1:0")
	return sys
}

// startReplica starts a replica, and answers its address.
func (s *system) startReplica(span vnid.Range, metrics *prometheus.Registry) string {
	s.t.Helper()
	r, address, nc := s.newReplica(span, metrics)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.run(ctx, nc) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("run: %v", err)
		}
	})
	return address
}

// runReplica starts the only replica; stop returns when it has ended after ctx
// did.
func (s *system) runReplica(ctx context.Context) (stop func()) {
	s.t.Helper()
	r, address, nc := s.newReplica(vnid.Default(), s.metrics)
	s.address = address
	done := make(chan error, 1)
	go func() { done <- r.run(ctx, nc) }()
	return func() {
		if err := <-done; err != nil {
			s.t.Errorf("run: %v", err)
		}
	}
}

func (s *system) newReplica(span vnid.Range, metrics *prometheus.Registry) (*replica, string, *nats.Conn) {
	t := s.t
	t.Helper()
	source := s.ca.Source(t, identitytest.Service(t, "tenancy"))
	log := hclog.NewNullLogger()
	nc, err := natsd.Connect([]string{s.store.URL()}, source, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	srv, err := rpcserve.New(rpcserve.Config{Listen: "127.0.0.1:0"}, source, log, metrics)
	if err != nil {
		t.Fatal(err)
	}
	return &replica{span: span, initial: s.initial, server: srv, metrics: metrics, ipam: s.ipam, source: s.source, log: log}, srv.Addr().String(), nc
}

// as connects as somebody.
func (s *system) as(id identity.ID) client {
	s.t.Helper()
	conn, err := rpcdial.New(rpcdial.Config{
		Addresses: []string{s.address}, Roles: []accessv1.Role{accessv1.Role_ROLE_TENANCY},
	}, s.ca.Source(s.t, id))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return newClient(conn)
}

func (s *system) operator() client { return s.as(identity.Operator("ann")) }

func (s *system) node(name string) client { return s.as(identity.Node(name)) }

// client is the whole API.
type client struct {
	tenancyv1.NetNamespaceServiceClient
	tenancyv1.IsolationServiceClient
	tenancyv1.PodRegistryServiceClient
	tenancyv1.NetworkPolicyServiceClient
	tenancyv1.ResolvedPolicyServiceClient
}

func newClient(conn *grpc.ClientConn) client {
	return client{
		tenancyv1.NewNetNamespaceServiceClient(conn),
		tenancyv1.NewIsolationServiceClient(conn),
		tenancyv1.NewPodRegistryServiceClient(conn),
		tenancyv1.NewNetworkPolicyServiceClient(conn),
		tenancyv1.NewResolvedPolicyServiceClient(conn),
	}
}

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (s *system) metric(name string) float64 {
	s.t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		m := family.GetMetric()[0]
		return m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	s.t.Fatalf("there is no metric %s", name)
	return 0
}
