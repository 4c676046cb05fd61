package nodeagent

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
)

// ipamCalls answers each AllocateHostSubnet with what the test sends.
type ipamCalls struct {
	ipamv1.HostSubnetServiceClient

	answers chan string // a subnet, or nothing for UNAVAILABLE
}

func (c *ipamCalls) AllocateHostSubnet(ctx context.Context, r *ipamv1.AllocateHostSubnetRequest, _ ...grpc.CallOption) (*ipamv1.AllocateHostSubnetResponse, error) {
	select {
	case subnet := <-c.answers:
		if subnet == "" {
			return nil, status.Error(codes.Unavailable, "away")
		}
		return &ipamv1.AllocateHostSubnetResponse{HostSubnet: &ipamv1.HostSubnet{Name: r.GetNode(), Subnets: []string{subnet}}}, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

func TestPodsWaitUntilTheNodesSubnetCanBeTrusted(t *testing.T) {
	former, current := netip.MustParsePrefix("10.128.0.0/23"), netip.MustParsePrefix("10.129.0.0/23")
	start := func(t *testing.T) (r *registration, answer func(string)) {
		calls := &ipamCalls{answers: make(chan string)}
		r = newRegistration(calls, Config{Node: "n1"}, hclog.NewNullLogger())
		settled := make(chan struct{}, 8)
		r.wake, r.registered = func() { settled <- struct{}{} }, func() {}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			<-done
		})
		return r, func(text string) {
			t.Helper()
			for len(settled) > 0 {
				<-settled
			}
			calls.answers <- text
			select {
			case <-settled:
			case <-time.After(10 * time.Second):
				t.Fatal("nobody was woken")
			}
		}
	}
	missing := func(t *testing.T, r *registration, own netip.Prefix, want bool) {
		t.Helper()
		if got := r.Missing(own); (len(got) > 0) != want {
			t.Errorf("with %s: missing %v", own, got)
		}
	}

	t.Run("at start, until ipam has answered", func(t *testing.T) {
		r, answer := start(t)
		missing(t, r, former, true)
		answer(former.String())
		missing(t, r, former, false)
	})
	t.Run("until a new subnet has arrived", func(t *testing.T) {
		r, answer := start(t)
		answer(current.String())
		missing(t, r, former, true)
		missing(t, r, current, false)
		missing(t, r, former, false) // what is followed is newer from then on
	})
	t.Run("not when ipam is away", func(t *testing.T) {
		r, answer := start(t)
		answer("")
		missing(t, r, former, false)
		answer(current.String())
		missing(t, r, former, true)
	})
	t.Run("again when the node was released while it lives", func(t *testing.T) {
		r, answer := start(t)
		answer(former.String())
		missing(t, r, former, false)
		r.Again()
		missing(t, r, former, true)
		answer(current.String())
		missing(t, r, former, true)
		missing(t, r, current, false)
	})
}
