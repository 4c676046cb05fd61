package lookups

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

const (
	// callTime bounds a call; within it other replicas are tried.
	callTime = 10 * time.Second
	// retryAfter is the pause after a call that did not work.
	retryAfter = time.Second
	// renewAfter is after how long a name that pods look up is told again: egress forgets one
	// that is not told for an hour, and asks for no more than every ten minutes.
	renewAfter = 10 * time.Minute
	// refusedAfter is that for a call of which egress did not take all: it has as many
	// names of a wildcard as it takes, or did not know the wildcard yet.
	refusedAfter = 30 * time.Second
	// inCall is how many names are in a call at most, as egress asks for.
	inCall = 100
	// maxWaiting and maxTold bound what is remembered. A name beyond the first is told at
	// its next look-up, one beyond the second perhaps too often.
	maxWaiting, maxTold = 5_000, 50_000
)

// Reporter reports. Its methods may be called by many goroutines at once.
type Reporter struct {
	client egressv1.EgressNetworkPolicyServiceClient
	node   string
	log    hclog.Logger
	now    func() time.Time
	wake   chan struct{}

	mu        sync.Mutex
	wildcards map[string]bool
	waiting   map[string]bool
	told      map[string]time.Time // when to tell again
	failing   bool
}

// New reports by a connection to egress, as a node. Nothing is sent before Run, and
// nothing is of interest before Follow.
func New(egress grpc.ClientConnInterface, node string, log hclog.Logger) *Reporter {
	return &Reporter{
		client: egressv1.NewEgressNetworkPolicyServiceClient(egress), node: node, log: log.Named("lookups"),
		now: time.Now, wake: make(chan struct{}, 1), waiting: map[string]bool{}, told: map[string]time.Time{},
	}
}

// Follow says which wildcards ("*.example.com") matter from now on. When there are others
// than before, names are told anew: what egress knows of a name it knows by wildcard.
func (r *Reporter) Follow(wildcards []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := make(map[string]bool, len(wildcards))
	for _, w := range wildcards {
		wanted[w] = true
	}
	if maps.Equal(wanted, r.wildcards) {
		return
	}
	r.wildcards = wanted
	clear(r.told)
	maps.DeleteFunc(r.waiting, func(name string, _ bool) bool { return !r.meant(name) })
}

// Answer takes the copy of a frame with an answer to a pod. It does not wait, and keeps
// nothing of the frame.
func (r *Reporter) Answer(frame []byte) {
	name, ok := named(frame)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.meant(name) || r.waiting[name] || len(r.waiting) >= maxWaiting || r.now().Before(r.told[name]) {
		return
	}
	r.waiting[name] = true
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// meant says whether a wildcard has the name. The caller holds the lock.
func (r *Reporter) meant(name string) bool {
	for _, rest, more := strings.Cut(name, "."); more; _, rest, more = strings.Cut(rest, ".") {
		if r.wildcards["*."+rest] {
			return true
		}
	}
	return false
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
		again = nil
		for {
			names := r.next()
			if len(names) == 0 {
				break
			}
			if !r.report(ctx, names) {
				again = time.After(retryAfter)
				break
			}
		}
	}
}

// next is what to tell in one call.
func (r *Reporter) next() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for name := range r.waiting {
		if names = append(names, name); len(names) == inCall {
			break
		}
	}
	slices.Sort(names)
	return names
}

// report makes one call, and says whether to go on. What was told waits no longer.
func (r *Reporter) report(ctx context.Context, names []string) bool {
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answer, err := r.client.ReportNames(call, &egressv1.ReportNamesRequest{Node: r.node, Names: names})
	if ctx.Err() != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	pause := renewAfter
	switch status.Code(err) {
	case codes.OK:
		r.failing = false
		if int(answer.GetAccepted()) < len(names) {
			pause = refusedAfter
		}
	case codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		r.log.Error("egress does not take the names that pods look up", "error", err, "names", len(names))
		pause = refusedAfter // A repetition would have the same answer.
	default:
		if !r.failing {
			r.log.Warn("egress cannot be told which names pods look up, trying again", "error", err, "names", len(names))
		}
		r.failing = true
		return false
	}
	r.remember(names, pause)
	return true
}

// remember notes when names are to be told again. The caller holds the lock.
func (r *Reporter) remember(names []string, pause time.Duration) {
	now := r.now()
	if len(r.told)+len(names) > maxTold {
		maps.DeleteFunc(r.told, func(_ string, again time.Time) bool { return !now.Before(again) })
		if len(r.told)+len(names) > maxTold {
			clear(r.told)
		}
	}
	for _, name := range names {
		delete(r.waiting, name)
		r.told[name] = now.Add(pause)
	}
}
