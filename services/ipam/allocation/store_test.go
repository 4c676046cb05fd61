package allocation_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam/allocation"
	"github.com/damask-sdn/damask/services/ipam/plan"
)

var now = time.Unix(1_700_000_000, 0)

// replica opens a store of its own connection that runs as long as the test.
func replica(t testing.TB, server *natsdtest.Server, name string, metrics *allocation.Metrics) (*allocation.Store, *bucket.Bucket) {
	t.Helper()
	store, b, stop := open(t, server, name, metrics)
	t.Cleanup(stop)
	return store, b
}

// fatal is what a test and a property have in common.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

func open(t fatal, server *natsdtest.Server, name string, metrics *allocation.Metrics) (_ *allocation.Store, _ *bucket.Bucket, stop func()) {
	t.Helper()
	js, nc := server.JetStream()
	cfg := bucket.Config{Name: name, Subject: "test." + name}
	b, err := bucket.Open(soon(), js, nc, cfg, hclog.NewNullLogger())
	if err != nil {
		t.Fatalf("open bucket: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	return allocation.New(b, metrics), b, func() {
		cancel()
		<-done
		nc.Close()
	}
}

// soon is a deadline that only a hanging test meets. The context is let go
// with the process.
func soon() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// network reads a plan: ranges as CIDR and host bits, with one service range.
func network(t fatal, ranges map[string]uint32, order ...string) plan.Plan {
	t.Helper()
	m := &ipamv1.ClusterNetwork{ServiceNetworks: []string{"172.30.0.0/16"}}
	for _, cidr := range order {
		m.Networks = append(m.Networks, &ipamv1.ClusterNetworkEntry{Cidr: cidr, HostSubnetLength: ranges[cidr]})
	}
	return plan.Parse(m, func(field, format string, args ...any) {
		t.Fatalf("%s: %s", field, fmt.Sprintf(format, args...))
	})
}

func one(t fatal, cidr string, hostBits uint32) plan.Plan {
	t.Helper()
	return network(t, map[string]uint32{cidr: hostBits}, cidr)
}

func created(t testing.TB, s *allocation.Store, p plan.Plan) *ipamv1.ClusterNetwork {
	t.Helper()
	m, err := s.Create(soon(), p)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// node is a registration with the n-th host IP.
func node(name, uid string, n byte, wish ...string) allocation.Registration {
	r := allocation.Registration{Node: name, UID: uid, HostIPs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, n})}}
	for _, w := range wish {
		r.Wish = append(r.Wish, netip.MustParsePrefix(w))
	}
	return r
}

func registered(t testing.TB, s *allocation.Store, r allocation.Registration) *ipamv1.HostSubnet {
	t.Helper()
	h, err := s.Register(soon(), r, now)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func released(t testing.TB, s *allocation.Store, node string) {
	t.Helper()
	if err := s.Release(soon(), node, ""); err != nil {
		t.Fatal(err)
	}
}

func kindOf(err error) allocation.Kind {
	var r *allocation.Refusal
	if errors.As(err, &r) {
		return r.Kind
	}
	return 0
}

// refused fails the test unless err is a refusal of the kind whose message is
// as wanted.
func refused(t testing.TB, err error, kind allocation.Kind, message string) {
	t.Helper()
	if kindOf(err) != kind || err.Error() != message {
		t.Errorf("got %v, want kind %d: %s", err, kind, message)
	}
}

func subnetOf(h *ipamv1.HostSubnet) string {
	if len(h.GetSubnets()) != 1 {
		return fmt.Sprint(h.GetSubnets())
	}
	return h.GetSubnets()[0]
}
