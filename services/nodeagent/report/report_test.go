package report

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// calls hands each call's name to the test.
type calls struct{ made chan string }

func (c *calls) RegisterPod(context.Context, *tenancyv1.RegisterPodRequest, ...grpc.CallOption) (*tenancyv1.RegisterPodResponse, error) {
	c.made <- "register"
	return &tenancyv1.RegisterPodResponse{}, nil
}

func (c *calls) UnregisterPod(context.Context, *tenancyv1.UnregisterPodRequest, ...grpc.CallOption) (*tenancyv1.UnregisterPodResponse, error) {
	c.made <- "unregister"
	return &tenancyv1.UnregisterPodResponse{}, nil
}

func (c *calls) SyncNodePods(context.Context, *tenancyv1.SyncNodePodsRequest, ...grpc.CallOption) (*tenancyv1.SyncNodePodsResponse, error) {
	c.made <- "all"
	return &tenancyv1.SyncNodePodsResponse{}, nil
}

func (c *calls) want(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-c.made:
		if got != want {
			t.Fatalf("call %s, want %s", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("no call, want %s", want)
	}
}

func TestAllPodsAreReportedAgainWhenTheNodeHasRegistered(t *testing.T) {
	c := &calls{made: make(chan string)}
	pods := make(chan []*tenancyv1.Pod, 1)
	pods <- nil
	current := func() []*tenancyv1.Pod {
		now := <-pods
		pods <- now
		return now
	}
	r := New("n1", c, current, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	r.Begin()
	c.want(t, "all") // at start
	<-pods
	pods <- []*tenancyv1.Pod{{Namespace: "shop", Name: "web", Node: "n1", SandboxId: "s1"}}
	r.Changed()
	c.want(t, "register") // the difference
	r.Again()
	c.want(t, "all") // though nothing differs from what was told
}

func TestNothingIsReportedBeforeTheNodesPodsAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &calls{made: make(chan string, 1)}
		r := New("n1", c, func() []*tenancyv1.Pod { return nil }, hclog.NewNullLogger())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		r.Changed()
		r.Again()
		synctest.Wait()
		if len(c.made) > 0 {
			t.Errorf("call %s", <-c.made)
		}
		r.Begin()
		c.want(t, "all")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
