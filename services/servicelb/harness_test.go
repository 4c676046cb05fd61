package servicelb

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// system is a service with its store, and a CA for its callers.
type system struct {
	t       *testing.T
	ca      *identitytest.CA
	address string
	metrics *prometheus.Registry
	store   *natsd.Server

	ipam, tenancy grpc.ClientConnInterface // what replicas are told
}

// small is a cluster that has little to hand out.
func small() Config {
	return Config{ClusterIPs: []string{"172.30.0.0/28"}, NodePorts: "30000-30009", LoadBalancerIPs: []string{"192.0.2.1-192.0.2.3"}}
}

// large is a cluster with the usual ranges.
func large() Config {
	return Config{ClusterIPs: []string{"172.30.0.0/16"}, LoadBalancerIPs: []string{"198.51.100.0/24"}}
}

// start starts one replica over mutual TLS, on a NATS server of its own.
func start(t *testing.T, cfg Config) *system {
	t.Helper()
	sys := newSystem(t)
	sys.address = sys.startReplica(cfg, sys.metrics)
	return sys
}

// newSystem starts a NATS server, and no replica.
func newSystem(t *testing.T) *system {
	t.Helper()
	sys := &system{t: t, ca: identitytest.New(t), metrics: prometheus.NewRegistry()}
	store, err := natsd.Start(natsd.ServerConfig{StoreDir: t.TempDir(), Listen: "127.0.0.1:0", Sync: natsd.SyncPeriodic},
		sys.ca.Source(t, identitytest.Service(t, "nats")), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Stop)
	sys.store = store
	return sys
}

// startReplica starts a replica, and answers its address.
func (s *system) startReplica(cfg Config, metrics *prometheus.Registry) string {
	t := s.t
	t.Helper()
	source := s.ca.Source(t, identitytest.Service(t, "servicelb"))
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
	numbers, err := cfg.numbers()
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{numbers: numbers, server: srv, metrics: metrics, ipam: s.ipam, tenancy: s.tenancy, log: log}
	if cfg.Kubernetes.Enabled {
		if r.cluster, err = kube.New(cfg.Kubernetes, serviceName, log); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.run(ctx, nc) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return srv.Addr().String()
}

// client is the whole API.
type client struct {
	servicelbv1.ServiceServiceClient
	servicelbv1.EndpointSliceServiceClient
	servicelbv1.NeedPodsServiceClient
}

// as connects as somebody, to some replicas or to the first.
func (s *system) as(id identity.ID, addresses ...string) client {
	s.t.Helper()
	if len(addresses) == 0 {
		addresses = []string{s.address}
	}
	conn, err := rpcdial.New(rpcdial.Config{
		Addresses: addresses, Roles: []accessv1.Role{accessv1.Role_ROLE_SERVICELB},
	}, s.ca.Source(s.t, id))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return client{
		servicelbv1.NewServiceServiceClient(conn), servicelbv1.NewEndpointSliceServiceClient(conn),
		servicelbv1.NewNeedPodsServiceClient(conn),
	}
}

func (s *system) operator() client { return s.as(identity.Operator("ann")) }

func (s *system) node(name string) client { return s.as(identity.Node(name)) }

func (c client) create(t *testing.T, s *servicelbv1.Service) *servicelbv1.Service {
	t.Helper()
	answer, err := c.CreateService(soon(t), &servicelbv1.CreateServiceRequest{Service: s})
	if err != nil {
		t.Fatalf("create %s: %v", s.GetName(), err)
	}
	return answer.GetService()
}

func (c client) update(t *testing.T, s *servicelbv1.Service) *servicelbv1.Service {
	t.Helper()
	answer, err := c.UpdateService(soon(t), &servicelbv1.UpdateServiceRequest{Service: s})
	if err != nil {
		t.Fatalf("update %s: %v", s.GetName(), err)
	}
	return answer.GetService()
}

func (c client) remove(t *testing.T, name string) {
	t.Helper()
	if _, err := c.DeleteService(soon(t), &servicelbv1.DeleteServiceRequest{Namespace: "shop", Name: name}); err != nil {
		t.Fatalf("delete %s: %v", name, err)
	}
}

func (c client) put(t *testing.T, s *servicelbv1.EndpointSlice) *servicelbv1.EndpointSlice {
	t.Helper()
	answer, err := c.PutEndpointSlice(soon(t), &servicelbv1.PutEndpointSliceRequest{EndpointSlice: s})
	if err != nil {
		t.Fatalf("put %s: %v", s.GetName(), err)
	}
	return answer.GetEndpointSlice()
}

// web is a valid service of one port.
func web(name string, change ...func(*servicelbv1.Service)) *servicelbv1.Service {
	s := &servicelbv1.Service{Namespace: "shop", Name: name, Ports: []*servicelbv1.ServicePort{{Port: 80, TargetPort: "8080"}}}
	for _, f := range change {
		f(s)
	}
	return s
}

func nodePort(s *servicelbv1.Service) { s.Type = servicelbv1.ServiceType_SERVICE_TYPE_NODE_PORT }

func balanced(s *servicelbv1.Service) { s.Type = servicelbv1.ServiceType_SERVICE_TYPE_LOAD_BALANCER }

// sliceOf is a valid slice of a service.
func sliceOf(service, name string, addresses ...string) *servicelbv1.EndpointSlice {
	s := &servicelbv1.EndpointSlice{
		Namespace: "shop", Name: name, ServiceName: service, Ports: []*servicelbv1.EndpointPort{{Port: 8080}},
	}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, &servicelbv1.Endpoint{Addresses: []string{a}})
	}
	return s
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
