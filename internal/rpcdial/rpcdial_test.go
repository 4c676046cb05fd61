package rpcdial_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
)

// replica counts the calls that it gets, and answers the first ones
// UNAVAILABLE.
type replica struct {
	ipamv1.UnimplementedHostSubnetServiceServer
	calls   atomic.Int32
	failing atomic.Int32
}

func (r *replica) GetHostSubnet(context.Context, *ipamv1.GetHostSubnetRequest) (*ipamv1.GetHostSubnetResponse, error) {
	r.calls.Add(1)
	if r.failing.Add(-1) >= 0 {
		return nil, status.Error(codes.Unavailable, "not now")
	}
	return &ipamv1.GetHostSubnetResponse{}, nil
}

// serve runs a replica on an address until stop is called.
func serve(t *testing.T, ca *identitytest.CA, listen string, r *replica) (address string, stop func()) {
	t.Helper()
	srv, err := rpcserve.New(rpcserve.Config{Listen: listen}, ca.Source(t, identitytest.Service(t, "ipam")), hclog.NewNullLogger(), nil)
	if err != nil {
		t.Fatal(err)
	}
	srv.Register(func(reg grpc.ServiceRegistrar) { ipamv1.RegisterHostSubnetServiceServer(reg, r) })
	srv.SetReady(true)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	var stopped atomic.Bool
	stop = func() {
		if stopped.Swap(true) {
			return
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return srv.Addr().String(), stop
}

func dial(t *testing.T, ca *identitytest.CA, cfg rpcdial.Config) ipamv1.HostSubnetServiceClient {
	t.Helper()
	cfg.Roles = []accessv1.Role{accessv1.Role_ROLE_IPAM}
	conn, err := rpcdial.New(cfg, ca.Source(t, identity.Node("n1")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return ipamv1.NewHostSubnetServiceClient(conn)
}

func get(c ipamv1.HostSubnetServiceClient) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := c.GetHostSubnet(ctx, &ipamv1.GetHostSubnetRequest{})
	return err
}

func TestCallsAreSpreadAndSurviveTheLossOfAReplica(t *testing.T) {
	ca := identitytest.New(t)
	var a, b replica
	addressA, stopA := serve(t, ca, "127.0.0.1:0", &a)
	addressB, _ := serve(t, ca, "127.0.0.1:0", &b)
	c := dial(t, ca, rpcdial.Config{Addresses: []string{addressA, addressB}})
	for a.calls.Load() == 0 || b.calls.Load() == 0 {
		if err := get(c); err != nil {
			t.Fatal(err)
		}
		if a.calls.Load()+b.calls.Load() > 1000 {
			t.Fatalf("1000 calls went to one replica: %d and %d", a.calls.Load(), b.calls.Load())
		}
	}
	stopA()
	for range 20 {
		if err := get(c); err != nil {
			t.Fatalf("with one replica gone: %v", err)
		}
	}
}

func TestUnavailableIsTriedAgain(t *testing.T) {
	ca := identitytest.New(t)
	var r replica
	r.failing.Store(3)
	address, _ := serve(t, ca, "127.0.0.1:0", &r)
	if err := get(dial(t, ca, rpcdial.Config{Addresses: []string{address}})); err != nil {
		t.Error(err)
	}
	if got := r.calls.Load(); got != 4 {
		t.Errorf("%d attempts, want 4", got)
	}
}

func TestACallWithADeadlineWaitsForAServer(t *testing.T) {
	ca := identitytest.New(t)
	reserve, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := reserve.Addr().String()
	_ = reserve.Close()
	c := dial(t, ca, rpcdial.Config{Addresses: []string{address}})
	if _, err := c.GetHostSubnet(context.Background(), &ipamv1.GetHostSubnetRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("without a deadline: got %v, want UNAVAILABLE", err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- get(c) }()
	serve(t, ca, address, &replica{})
	if err := <-waiting; err != nil {
		t.Errorf("with a deadline: %v", err)
	}
}

func TestConnectionsAreOpenedByTheCallersDialer(t *testing.T) {
	ca := identitytest.New(t)
	address, _ := serve(t, ca, "127.0.0.1:0", &replica{})
	var asked atomic.Value
	c := dial(t, ca, rpcdial.Config{Addresses: []string{"192.0.2.1:9441"}, Dial: func(ctx context.Context, to string) (net.Conn, error) {
		asked.Store(to)
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}})
	if err := get(c); err != nil {
		t.Fatal(err)
	}
	if got := asked.Load(); got != "192.0.2.1:9441" {
		t.Errorf("asked for %v", got)
	}
}

func TestALocalCallFailsAtOnceWhenNobodyServes(t *testing.T) {
	conn, err := rpcdial.Local(filepath.Join(t.TempDir(), "none.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err = ipamv1.NewHostSubnetServiceClient(conn).GetHostSubnet(ctx, &ipamv1.GetHostSubnetRequest{})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
}

func TestAConnectionNeedsAddressesAndRoles(t *testing.T) {
	source := identitytest.New(t).Source(t, identity.Node("n1"))
	if _, err := rpcdial.New(rpcdial.Config{Roles: []accessv1.Role{accessv1.Role_ROLE_IPAM}}, source); err == nil {
		t.Error("connected to no address")
	}
	if _, err := rpcdial.New(rpcdial.Config{Addresses: []string{"h:1"}}, source); err == nil {
		t.Error("connected to any role")
	}
}
