package rpcserve_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	channelzv1 "google.golang.org/grpc/channelz/grpc_channelz_v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

// hostSubnets answers with functions that a test sets before it serves.
type hostSubnets struct {
	ipamv1.UnimplementedHostSubnetServiceServer
	allocate func(context.Context, *ipamv1.AllocateHostSubnetRequest) error
}

func (h *hostSubnets) AllocateHostSubnet(ctx context.Context, r *ipamv1.AllocateHostSubnetRequest) (*ipamv1.AllocateHostSubnetResponse, error) {
	if err := h.allocate(ctx, r); err != nil {
		return nil, err
	}
	return &ipamv1.AllocateHostSubnetResponse{}, nil
}

func (h *hostSubnets) ReleaseHostSubnet(context.Context, *ipamv1.ReleaseHostSubnetRequest) (*ipamv1.ReleaseHostSubnetResponse, error) {
	return &ipamv1.ReleaseHostSubnetResponse{}, nil
}

func accept(context.Context, *ipamv1.AllocateHostSubnetRequest) error { return nil }

// serve runs a ready server that ends with the test, and answers its address.
func serve(t *testing.T, ca *identitytest.CA, log hclog.Logger, reg prometheus.Registerer, h *hostSubnets) string {
	t.Helper()
	source := ca.Source(t, identitytest.Service(t, "ipam"))
	srv, err := rpcserve.New(rpcserve.Config{Listen: "127.0.0.1:0"}, source, log, reg)
	if err != nil {
		t.Fatal(err)
	}
	srv.Register(func(r grpc.ServiceRegistrar) { ipamv1.RegisterHostSubnetServiceServer(r, h) })
	srv.SetReady(true)
	run(t, srv)
	return srv.Addr().String()
}

func run(t *testing.T, srv *rpcserve.Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
}

func client(t *testing.T, source *identity.Source, addresses ...string) *grpc.ClientConn {
	t.Helper()
	conn, err := rpcdial.New(rpcdial.Config{Addresses: addresses, Roles: []accessv1.Role{accessv1.Role_ROLE_IPAM}}, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestTheAllowListOfTheAPIIsEnforced(t *testing.T) {
	ca := identitytest.New(t)
	address := serve(t, ca, hclog.NewNullLogger(), nil, &hostSubnets{allocate: accept})
	allocate := func(node string) func(context.Context, ipamv1.HostSubnetServiceClient) error {
		return func(ctx context.Context, c ipamv1.HostSubnetServiceClient) error {
			_, err := c.AllocateHostSubnet(ctx, &ipamv1.AllocateHostSubnetRequest{Node: node})
			return err
		}
	}
	release := func(ctx context.Context, c ipamv1.HostSubnetServiceClient) error {
		_, err := c.ReleaseHostSubnet(ctx, &ipamv1.ReleaseHostSubnetRequest{Node: "n1"})
		return err
	}
	for _, tc := range []struct {
		name string
		id   identity.ID
		call func(context.Context, ipamv1.HostSubnetServiceClient) error
		want codes.Code
	}{
		{"a node may act for itself", identity.Node("n1.example.org"), allocate("n1.example.org"), codes.OK},
		{"a node may not act for another node", identity.Node("n1.example.org"), allocate("n2"), codes.PermissionDenied},
		{"a node may not act for no node", identity.Node("n1"), allocate(""), codes.PermissionDenied},
		{"an operator may act for any node", identity.Operator("root"), allocate("n2"), codes.OK},
		{"an operator's name is no node's name", identity.Operator("n1"), allocate("n2"), codes.OK},
		{"a role that is not listed may not call", identitytest.Service(t, "tenancy"), allocate("n1"), codes.PermissionDenied},
		{"a node may not call what is for operators", identity.Node("n1"), release, codes.PermissionDenied},
		{"an operator may", identity.Operator("root"), release, codes.OK},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn := client(t, ca.Source(t, tc.id), address)
			err := tc.call(within(t, 5*time.Second), ipamv1.NewHostSubnetServiceClient(conn))
			if got := status.Code(err); got != tc.want {
				t.Errorf("got %v (%v), want %v", got, err, tc.want)
			}
		})
	}
}

func TestAStrangerDoesNotGetIn(t *testing.T) {
	ca := identitytest.New(t)
	address := serve(t, ca, hclog.NewNullLogger(), nil, &hostSubnets{allocate: accept})
	stranger := identitytest.New(t).Source(t, identity.Operator("root"))
	conn := client(t, stranger, address)
	_, err := healthv1.NewHealthClient(conn).Check(context.Background(), &healthv1.HealthCheckRequest{})
	if got := status.Code(err); got != codes.Unavailable {
		t.Errorf("got %v (%v), want %v", got, err, codes.Unavailable)
	}
}

func TestAClientRefusesAServerInAnotherRole(t *testing.T) {
	ca := identitytest.New(t)
	address := serve(t, ca, hclog.NewNullLogger(), nil, &hostSubnets{allocate: accept})
	conn, err := rpcdial.New(rpcdial.Config{
		Addresses: []string{address}, Roles: []accessv1.Role{accessv1.Role_ROLE_TENANCY},
	}, ca.Source(t, identity.Operator("root")))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = healthv1.NewHealthClient(conn).Check(context.Background(), &healthv1.HealthCheckRequest{})
	if err == nil || !strings.Contains(err.Error(), "the other end is service/ipam, expected tenancy") {
		t.Errorf("got %v", err)
	}
}

func TestWhoeverGotInMayAskForHealth(t *testing.T) {
	ca := identitytest.New(t)
	address := serve(t, ca, hclog.NewNullLogger(), nil, &hostSubnets{allocate: accept})
	conn := client(t, ca.Source(t, identitytest.Service(t, "egress")), address)
	answer, err := healthv1.NewHealthClient(conn).Check(within(t, 5*time.Second), &healthv1.HealthCheckRequest{})
	if err != nil || answer.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("got %v, %v", answer, err)
	}
}

func TestCallsGoOnlyToReplicasThatAreReady(t *testing.T) {
	ca := identitytest.New(t)
	var unready *rpcserve.Server
	var addresses []string
	for _, ready := range []bool{false, true} {
		srv, err := rpcserve.New(rpcserve.Config{Listen: "127.0.0.1:0"}, ca.Source(t, identitytest.Service(t, "ipam")), hclog.NewNullLogger(), nil)
		if err != nil {
			t.Fatal(err)
		}
		srv.Register(func(r grpc.ServiceRegistrar) {
			ipamv1.RegisterHostSubnetServiceServer(r, &hostSubnets{allocate: func(context.Context, *ipamv1.AllocateHostSubnetRequest) error {
				if !ready {
					return errors.New("asked a replica that is not ready")
				}
				return nil
			}})
		})
		srv.SetReady(ready)
		run(t, srv)
		addresses = append(addresses, srv.Addr().String())
		if !ready {
			unready = srv
		}
	}
	conn := client(t, ca.Source(t, identity.Operator("root")), addresses...)
	c := ipamv1.NewHostSubnetServiceClient(conn)
	for range 20 {
		if _, err := c.AllocateHostSubnet(within(t, 5*time.Second), &ipamv1.AllocateHostSubnetRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	alone := client(t, ca.Source(t, identity.Operator("root")), addresses[0])
	_, err := ipamv1.NewHostSubnetServiceClient(alone).AllocateHostSubnet(context.Background(), &ipamv1.AllocateHostSubnetRequest{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("without a deadline and a ready replica: got %v, want UNAVAILABLE at once", err)
	}
	unready.SetReady(true)
	for state := alone.GetState(); state != connectivity.Ready; state = alone.GetState() {
		if !alone.WaitForStateChange(within(t, 5*time.Second), state) {
			t.Fatalf("the replica became ready, and the client still is %v", state)
		}
	}
}

func TestAPanicAnswersInternalWithoutItsCause(t *testing.T) {
	ca := identitytest.New(t)
	var log strings.Builder
	logger := hclog.New(&hclog.LoggerOptions{Output: hclog.NewLeveledWriter(&log, nil)})
	reg := prometheus.NewRegistry()
	address := serve(t, ca, logger, reg, &hostSubnets{allocate: func(_ context.Context, r *ipamv1.AllocateHostSubnetRequest) error {
		if r.GetNode() == "panic" {
			panic("the secret")
		}
		return errors.New("the secret")
	}})
	c := ipamv1.NewHostSubnetServiceClient(client(t, ca.Source(t, identity.Operator("root")), address))
	for _, node := range []string{"panic", "error"} {
		_, err := c.AllocateHostSubnet(within(t, 5*time.Second), &ipamv1.AllocateHostSubnetRequest{Node: node})
		if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", node, err)
		}
	}
	if n := strings.Count(log.String(), "the secret"); n < 2 {
		t.Errorf("the causes are not in the log:\n%s", log.String())
	}
	want := `
# HELP damask_rpc_calls_total Calls answered, by method and gRPC code.
# TYPE damask_rpc_calls_total counter
damask_rpc_calls_total{code="Internal",method="/damask.ipam.v1.HostSubnetService/AllocateHostSubnet"} 2
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "damask_rpc_calls_total"); err != nil {
		t.Error(err)
	}
}

func TestACallWithoutDeadlineGetsOne(t *testing.T) {
	ca := identitytest.New(t)
	deadlines := make(chan time.Duration, 1)
	address := serve(t, ca, hclog.NewNullLogger(), nil, &hostSubnets{allocate: func(ctx context.Context, _ *ipamv1.AllocateHostSubnetRequest) error {
		at, _ := ctx.Deadline()
		deadlines <- time.Until(at)
		if id, ok := rpcserve.Caller(ctx); !ok || id != identity.Operator("root") {
			return status.Errorf(codes.InvalidArgument, "caller %v", id)
		}
		return nil
	}})
	conn := client(t, ca.Source(t, identity.Operator("root")), address)
	_, err := ipamv1.NewHostSubnetServiceClient(conn).AllocateHostSubnet(context.Background(), &ipamv1.AllocateHostSubnetRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if d := <-deadlines; d <= 0 || d > 30*time.Second {
		t.Errorf("deadline in %v, want within 30 s", d)
	}
}

func TestAServerWithAnRPCThatCannotBeGuardedRefusesToStart(t *testing.T) {
	ca := identitytest.New(t)
	source := ca.Source(t, identitytest.Service(t, "ipam"))
	for _, tc := range []struct {
		name     string
		register func(grpc.ServiceRegistrar)
		want     string
	}{
		{"no option", func(r grpc.ServiceRegistrar) {
			channelzv1.RegisterChannelzServer(r, channelzv1.UnimplementedChannelzServer{})
		}, "RPC /grpc.channelz.v1.Channelz/GetTopChannels: it has no (damask.access.v1.access) option"},
		{"local only, on the network", func(r grpc.ServiceRegistrar) {
			labv1.RegisterLabServiceServer(r, labv1.UnimplementedLabServiceServer{})
		}, "it is local_only, and this server is on the network"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv, err := rpcserve.New(rpcserve.Config{Listen: "127.0.0.1:0"}, source, hclog.NewNullLogger(), nil)
			if err != nil {
				t.Fatal(err)
			}
			srv.Register(tc.register)
			if err := srv.Run(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if conn, err := net.Dial("tcp", srv.Addr().String()); err == nil {
				_ = conn.Close()
				t.Error("it still listens")
			}
		})
	}
}

func TestAnOccupiedPortIsSaidClearly(t *testing.T) {
	source := identitytest.New(t).Source(t, identitytest.Service(t, "ipam"))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	address := taken.Addr().String()
	_, err = rpcserve.New(rpcserve.Config{Listen: address}, source, hclog.NewNullLogger(), nil)
	if want := "listen on " + address + ": another process uses this port"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
}
