package rpcserve_test

import (
	"context"
	"errors"
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
	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

// lab answers GetLab, slowly if a gate is given.
type lab struct {
	labv1.UnimplementedLabServiceServer
	entered chan struct{}
	gate    chan struct{}
}

func (c *lab) GetLab(ctx context.Context, _ *labv1.GetLabRequest) (*labv1.GetLabResponse, error) {
	if _, ok := rpcserve.Caller(ctx); ok {
		return nil, status.Error(codes.InvalidArgument, "a local caller has no identity")
	}
	if c.gate != nil {
		close(c.entered)
		<-c.gate
	}
	return &labv1.GetLabResponse{}, nil
}

func TestALocalServerIsGuardedByTheModeOfItsSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "lab.sock")
	srv, err := rpcserve.NewLocal(path, 0o600, hclog.NewNullLogger(), nil)
	if err != nil {
		t.Fatal(err)
	}
	srv.Register(func(r grpc.ServiceRegistrar) { labv1.RegisterLabServiceServer(r, &lab{}) })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	conn, err := rpcdial.Local(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := labv1.NewLabServiceClient(conn).GetLab(within(t, 5*time.Second), &labv1.GetLabRequest{}); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
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
	service := &lab{entered: make(chan struct{}), gate: make(chan struct{})}
	srv.Register(func(r grpc.ServiceRegistrar) { labv1.RegisterLabServiceServer(r, service) })
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
		_, err := labv1.NewLabServiceClient(conn).GetLab(t.Context(), &labv1.GetLabRequest{})
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
