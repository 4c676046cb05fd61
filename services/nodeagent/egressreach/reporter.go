package egressreach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

const (
	// retryFirst and retryMost are the pauses before a stream is opened again.
	retryFirst, retryMost = 100 * time.Millisecond, 2 * time.Second
	// leastInterval bounds what a replica can ask for.
	leastInterval = 10 * time.Millisecond
)

// replica is what is used of one replica of egress.
type replica interface {
	ReportReachability(ctx context.Context, opts ...grpc.CallOption) (grpc.BidiStreamingClient[egressv1.ReportReachabilityRequest, egressv1.ReportReachabilityResponse], error)
}

// Reporter holds a stream to each replica of egress.
type Reporter struct {
	replicas map[string]replica
	prober   *Prober
	fence    *Fence
	log      hclog.Logger

	mu      sync.Mutex
	hosting uint64
	changed chan struct{} // closed and replaced when hosting changes
}

// New makes a reporter to replicas, by address: each decides for itself, so each must
// have a connection that leads to no other. Nothing is sent before Run, and no answer
// is seen unless the prober runs too. The fence, whose questions it asks, must run as well.
func New(replicas map[string]egressv1.EgressNodeServiceClient, prober *Prober, fence *Fence, log hclog.Logger) *Reporter {
	r := &Reporter{replicas: map[string]replica{}, prober: prober, fence: fence, log: log, changed: make(chan struct{})}
	for address, client := range replicas {
		r.replicas[address] = client
	}
	return r
}

// Confirm says which revision of this node's EgressHosting is true now: all that it
// does not have is gone. All replicas are told at once.
func (r *Reporter) Confirm(revision uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hosting = revision
	r.wake()
}

// wake has all streams look for news. The caller holds the lock.
func (r *Reporter) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// ask wakes the streams when the fence has a question, until ctx ends.
func (r *Reporter) ask(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.fence.changed:
			r.mu.Lock()
			r.wake()
			r.mu.Unlock()
		}
	}
}

// Run reports until ctx ends.
func (r *Reporter) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.ask(ctx) })
	for address, client := range r.replicas {
		group.Go(func() error {
			r.keep(ctx, address, client)
			return nil
		})
	}
	return group.Wait()
}

// keep opens a stream again and again until ctx ends.
func (r *Reporter) keep(ctx context.Context, address string, client replica) {
	pause, failing := retryFirst, false
	for {
		heard, err := r.stream(ctx, client)
		if ctx.Err() != nil {
			return
		}
		if heard {
			pause, failing = retryFirst, false
		}
		if !failing {
			r.log.Warn("reports to egress interrupted, trying again", "replica", address, "error", err)
			failing = true
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
			pause = min(2*pause, retryMost)
		}
	}
}

// stream holds one stream to its end; heard says that the replica has answered on it.
func (r *Reporter) stream(ctx context.Context, client replica) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.ReportReachability(ctx)
	if err != nil {
		return false, fmt.Errorf("open the stream: %w", err)
	}
	answers, ended := make(chan *egressv1.ReportReachabilityResponse), make(chan error, 1)
	go func() {
		for {
			answer, err := stream.Recv()
			if err != nil {
				ended <- fmt.Errorf("hear whom to watch: %w", err)
				return
			}
			select {
			case answers <- answer:
			case <-ctx.Done():
				ended <- ctx.Err() // reason waits for it
				return
			}
		}
	}()
	w := &watch{since: map[target]time.Time{}}
	for {
		r.mu.Lock()
		confirmed := r.changed // before looking: what changes meanwhile wakes
		r.mu.Unlock()
		changed := r.report(w)
		if changed || time.Since(w.sent) >= w.report && heard {
			w.sent = time.Now()
			if err := stream.Send(w.last); err != nil {
				return heard, errors.Join(fmt.Errorf("send a report: %w", err), reason(answers, ended))
			}
		}
		select {
		case err := <-ended:
			return heard, err
		case answer := <-answers:
			if err := errors.Join(w.take(answer, time.Now()), r.fence.told(answer)); err != nil {
				return heard, err
			}
			heard = true
			r.probe(w)
		case <-confirmed:
		case <-w.tick():
			r.probe(w)
		}
	}
}

// reason waits for why a stream ended: only receiving tells it.
func reason(answers <-chan *egressv1.ReportReachabilityResponse, ended <-chan error) error {
	for {
		select {
		case err := <-ended:
			return err
		case <-answers:
		}
	}
}

// probe asks all targets, if it is time.
func (r *Reporter) probe(w *watch) {
	if now := time.Now(); now.Sub(w.probed) >= w.interval {
		w.probed = now
		for t := range w.since {
			r.prober.Send(t.address)
		}
	}
}

// report makes w.last what is true now, and says whether that is news.
func (r *Reporter) report(w *watch) (news bool) {
	request := &egressv1.ReportReachabilityRequest{AsksToHost: r.fence.Asks()}
	w.expires = time.Time{}
	for t, since := range w.since {
		silent, next := r.prober.silent(t.address, w.patience)
		if !silent && !next.IsZero() && (w.expires.IsZero() || next.Before(w.expires)) {
			w.expires = next
		}
		if at, ever := r.prober.Answered(t.address); !silent && (!ever || at.Before(since)) {
			continue // No opinion yet.
		}
		request.Observations = append(request.Observations, &egressv1.Observation{Target: t.node, Reachable: !silent})
	}
	slices.SortFunc(request.Observations, func(a, b *egressv1.Observation) int { return strings.Compare(a.GetTarget(), b.GetTarget()) })
	r.mu.Lock()
	request.HostingRevision = r.hosting
	r.mu.Unlock()
	news = w.last == nil || request.GetHostingRevision() != w.last.GetHostingRevision() || request.GetAsksToHost() != w.last.GetAsksToHost() ||
		!slices.EqualFunc(request.GetObservations(), w.last.GetObservations(), func(a, b *egressv1.Observation) bool {
			return a.GetTarget() == b.GetTarget() && a.GetReachable() == b.GetReachable()
		})
	w.last = request
	return news
}

// target is a node to watch.
type target struct {
	node    string
	address netip.Addr
}

// watch is one stream's state.
type watch struct {
	since                      map[target]time.Time // Watched since; by target.
	interval, patience, report time.Duration
	probed, sent               time.Time
	expires                    time.Time // when the next target is silent for too long; zero: none waits
	last                       *egressv1.ReportReachabilityRequest
}

// tick comes when the next probe is due; never while nobody has said when.
func (w *watch) tick() <-chan time.Time {
	if w.interval == 0 {
		return nil
	}
	pause := min(w.interval-time.Since(w.probed), w.report)
	if !w.expires.IsZero() {
		pause = min(pause, time.Until(w.expires))
	}
	return time.After(max(0, pause))
}

// take takes whom to watch from now on. Who is watched already stays so.
func (w *watch) take(answer *egressv1.ReportReachabilityResponse, now time.Time) error {
	w.interval, w.patience, w.report = answer.GetProbeInterval().AsDuration(), answer.GetPatience().AsDuration(), answer.GetReportInterval().AsDuration()
	if min(w.interval, w.report) < leastInterval || w.patience < w.interval {
		return fmt.Errorf("egress asks for a probe each %s, a report each %s and a patience of %s, which makes no sense", w.interval, w.report, w.patience)
	}
	since := map[target]time.Time{}
	for _, t := range answer.GetTargets() {
		address, err := netip.ParseAddr(t.GetAddress())
		if err != nil {
			return fmt.Errorf("address of node %s to watch: %w", t.GetNode(), err)
		}
		key := target{t.GetNode(), address}
		since[key] = now
		if already, watched := w.since[key]; watched {
			since[key] = already
		}
	}
	w.since = since
	return nil
}
