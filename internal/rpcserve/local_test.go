package rpcserve_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcserve"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	nodev1 "github.com/damask-sdn/damask/proto/damask/node/v1"
)

// cni answers STATUS, slowly if a gate is given.
type cni struct {
	nodev1.UnimplementedCNIServiceServer
	entered chan struct{}
	gate    chan struct{}
}

func (c *cni) Status(ctx context.Context, _ *nodev1.StatusRequest) (*nodev1.StatusResponse, error) {
	if _, ok := rpcserve.Caller(ctx); ok {
		return nil, status.Error(codes.InvalidArgument, "a local caller has no identity")
	}
	if c.gate != nil {
		close(c.entered)
		<-c.gate
	}
	return &nodev1.StatusResponse{}, nil
}

func TestALocalServerIsGuardedByTheModeOfItsSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "cni.sock")
	leftBehind(t, path)
	srv, err := rpcserve.NewLocal(path, 0o600, hclog.NewNullLogger(), nil)
	if err != nil {
		t.Fatal(err)
	}
	srv.Register(func(r grpc.ServiceRegistrar) { nodev1.RegisterCNIServiceServer(r, &cni{}) })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	conn, err := rpcdial.Local(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := nodev1.NewCNIServiceClient(conn).Status(within(t, 5*time.Second), &nodev1.StatusRequest{}); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info, err)
	}
	if _, err := rpcserve.NewLocal(path, 0o600, hclog.NewNullLogger(), nil); err == nil || !strings.Contains(err.Error(), "another process serves it") {
		t.Errorf("a second server: got %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

// leftBehind makes a socket file as a killed process leaves it.
func leftBehind(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
}

func TestALocalServerRefusesRPCsForTheNetwork(t *testing.T) {
	srv, err := rpcserve.NewLocal(filepath.Join(t.TempDir(), "s"), 0o600, hclog.NewNullLogger(), nil)
	if err != nil {
		t.Fatal(err)
	}
	srv.Register(func(r grpc.ServiceRegistrar) {
		ipamv1.RegisterHostSubnetServiceServer(r, ipamv1.UnimplementedHostSubnetServiceServer{})
	})
	if err := srv.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "it is not local_only") {
		t.Errorf("got %v", err)
	}
}

func TestStoppingLetsACallInProgressFinish(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	srv, err := rpcserve.NewLocal(path, 0o600, hclog.NewNullLogger(), nil)
	if err != nil {
		t.Fatal(err)
	}
	service := &cni{entered: make(chan struct{}), gate: make(chan struct{})}
	srv.Register(func(r grpc.ServiceRegistrar) { nodev1.RegisterCNIServiceServer(r, service) })
	ctx, cancel := context.WithCancel(context.Background())
	done, answered := make(chan error, 1), make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	conn, err := rpcdial.Local(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	watch, err := healthv1.NewHealthClient(conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := nodev1.NewCNIServiceClient(conn).Status(t.Context(), &nodev1.StatusRequest{})
		answered <- err
	}()
	<-service.entered
	cancel()
	for err == nil { // the stream ends although its client goes on
		_, err = watch.Recv()
	}
	close(service.gate)
	if err := <-answered; err != nil {
		t.Errorf("the call in progress: %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("the server: %v", err)
	}
}
