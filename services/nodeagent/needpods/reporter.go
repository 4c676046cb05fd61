// Package needpods tells servicelb that packets for an idled service wait on this
// node.
//
// It owns the calls, their repetition and their patience; package idle says which
// services, and how often. It promises that whoever reports never waits, that a
// report is repeated until servicelb has it or it has no sense any more, and that
// several reports of one service are one. It must not know why a service has traffic,
// nor what becomes of the report.
package needpods

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

const (
	// callTime bounds a call; within it other replicas are tried.
	callTime = 10 * time.Second
	// retryAfter is the pause after a call that did not work.
	retryAfter = 2 * time.Second
	// outdated is how long after its last packet a service's report is given up: by
	// then nothing waits any more.
	outdated = 2 * time.Minute
	// atOnce is how many calls are under way at most.
	atOnce = 8
)

// service names one.
type service struct{ namespace, name string }

// Reporter reports. Its methods may be called by many goroutines at once.
type Reporter struct {
	client  servicelbv1.NeedPodsServiceClient
	node    string
	log     hclog.Logger
	now     func() time.Time
	wake    chan struct{}
	mu      sync.Mutex
	pending map[service]time.Time // when its last packet came
	failing bool
}

// New reports by a connection to servicelb, as a node. Nothing is sent before Run.
func New(servicelb grpc.ClientConnInterface, node string, log hclog.Logger) *Reporter {
	return &Reporter{
		client: servicelbv1.NewNeedPodsServiceClient(servicelb), node: node, log: log.Named("needpods"),
		now: time.Now, wake: make(chan struct{}, 1), pending: map[service]time.Time{},
	}
}

// Need says that a service has traffic. It does not wait.
func (r *Reporter) Need(namespace, name string) {
	r.mu.Lock()
	r.pending[service{namespace, name}] = r.now()
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run reports until ctx ends.
func (r *Reporter) Run(ctx context.Context) error {
	again := (<-chan time.Time)(nil)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-again:
		}
		if again = nil; r.once(ctx) {
			again = time.After(retryAfter)
		}
	}
}

// once reports all that is pending, and says whether something is left.
func (r *Reporter) once(ctx context.Context) (left bool) {
	r.mu.Lock()
	maps.DeleteFunc(r.pending, func(_ service, at time.Time) bool { return r.now().Sub(at) >= outdated })
	reports := maps.Clone(r.pending)
	r.mu.Unlock()
	var group errgroup.Group
	group.SetLimit(atOnce)
	for s, at := range reports {
		group.Go(func() error { r.report(ctx, s, at); return nil })
	}
	_ = group.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pending) > 0
}

// report makes one call. What is done, or has no sense, is no longer pending, unless
// packets came meanwhile.
func (r *Reporter) report(ctx context.Context, s service, at time.Time) {
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	_, err := r.client.ReportNeedPods(call, &servicelbv1.ReportNeedPodsRequest{Namespace: s.namespace, Name: s.name, Node: r.node})
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	code := status.Code(err)
	switch code {
	case codes.OK, codes.NotFound, codes.FailedPrecondition:
		// No such service, or not idled any more: this node's copy lags.
		r.failing = false
	default:
		if !r.failing {
			r.log.Warn("an idled service has traffic, and servicelb cannot be told", "namespace", s.namespace, "service", s.name, "error", err)
		}
		r.failing = true
	}
	switch code {
	case codes.OK, codes.NotFound, codes.FailedPrecondition, codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		// A repetition would have the same answer.
		if r.pending[s].Equal(at) {
			delete(r.pending, s)
		}
	}
}
