package kube_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam"
)

// free answers an address of this machine that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// embedded is a configuration with a store of its own.
func embedded(t *testing.T, ca *identitytest.CA) ipam.Config {
	t.Helper()
	return ipam.Config{
		Config: rpcserve.Config{Listen: free(t)}, Metrics: free(t), TLS: ca.Files(t, identitytest.Service(t, "ipam")),
		NATS: natsd.Config{Embedded: natsd.Embedded{StoreDir: t.TempDir(), Listen: free(t)}},
	}
}

// start runs the service until the test ends or stop is called.
func start(t *testing.T, cfg ipam.Config) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ipam.Run(ctx, cfg, hclog.NewNullLogger()) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the service ended with %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// dial answers the service's client for a caller.
func dial(t *testing.T, ca *identitytest.CA, id identity.ID, address string) ipamv1.HostSubnetServiceClient {
	t.Helper()
	conn, err := rpcdial.New(rpcdial.Config{Addresses: []string{address}, Roles: []accessv1.Role{accessv1.Role_ROLE_IPAM}}, ca.Source(t, id))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return ipamv1.NewHostSubnetServiceClient(conn)
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// request is what an agent asks for its node.
func request(node, ip string) *ipamv1.AllocateHostSubnetRequest {
	return &ipamv1.AllocateHostSubnetRequest{Node: node, NodeUid: "uid-" + node, HostIps: []string{ip}}
}
