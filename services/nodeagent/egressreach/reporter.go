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
	log      hclog.Logger

	mu      sync.Mutex
	hosting uint64
	changed chan struct{} // closed and replaced when hosting changes
}

// New makes a reporter to replicas, by address: each decides for itself, so each must
// have a connection that leads to no other. Nothing is sent before Run, and no answer
// is seen unless the prober runs too.
func New(replicas map[string]egressv1.EgressNodeServiceClient, prober *Prober, log hclog.Logger) *Reporter {
	r := &Reporter{replicas: map[string]replica{}, prober: prober, log: log, changed: make(chan struct{})}
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
	close(r.changed)
	r.changed = make(chan struct{})
}

// Run reports until ctx ends.
func (r *Reporter) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
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
				return
			}
		}
	}()
	w := &watch{since: map[target]time.Time{}}
	for {
		changed := r.report(w)
		if changed || time.Since(w.sent) >= w.report && heard {
			w.sent = time.Now()
			if err := stream.Send(w.last); err != nil {
				return heard, errors.Join(fmt.Errorf("send a report: %w", err), reason(answers, ended))
			}
		}
		r.mu.Lock()
		confirmed := r.changed
		fresh := r.hosting != w.last.GetHostingRevision()
		r.mu.Unlock()
		if fresh {
			continue
		}
		select {
		case err := <-ended:
			return heard, err
		case answer := <-answers:
			if err := w.take(answer, time.Now()); err != nil {
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
	request := &egressv1.ReportReachabilityRequest{}
	now := time.Now()
	for t, since := range w.since {
		at, ever := r.prober.Answered(t.address)
		if ever && at.After(since) {
			since = at
		} else if now.Sub(since) < w.patience {
			continue // No opinion yet.
		}
		request.Observations = append(request.Observations, &egressv1.Observation{Target: t.node, Reachable: now.Sub(since) < w.patience})
	}
	slices.SortFunc(request.Observations, func(a, b *egressv1.Observation) int { return strings.Compare(a.GetTarget(), b.GetTarget()) })
	r.mu.Lock()
	request.HostingRevision = r.hosting
	r.mu.Unlock()
	news = w.last == nil || request.GetHostingRevision() != w.last.GetHostingRevision() ||
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
	last                       *egressv1.ReportReachabilityRequest
}

// tick comes when the next probe is due; never while nobody has said when.
func (w *watch) tick() <-chan time.Time {
	if w.interval == 0 {
		return nil
	}
	return time.After(max(0, min(w.interval-time.Since(w.probed), w.report)))
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
