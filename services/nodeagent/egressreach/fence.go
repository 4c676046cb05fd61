package egressreach

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

const (
	// looks is how often a fence's time is looked at, and probes a half of it.
	looks = 12
	// idle is how often it is looked whether there is anything to fence.
	idle = 50 * time.Millisecond
	// fewest is how many observers must be silent at least: egress calls no node dead by less
	// than two votes.
	fewest = 2
)

// Hosting is what a fence closes and opens (package egresshost).
type Hosting interface {
	// Hosts says whether the node has to hold any egress IP.
	Hosts() bool
	// Close ends everything, and answers when nothing leaves by an egress IP any more. An error
	// leaves some of it open, but nothing comes into force until Open then either.
	Close(ctx context.Context) error
	// Open has everything in force again that egress told in this revision, or later.
	Open(revision uint64)
}

// Fence closes the egress IPs of a node that egress may be calling dead: when most of its
// observers, two at least, do not answer it for a time that is shorter than the one after which they
// say so. It opens them only when egress has said that the node counts as alive; it asks
// when they have answered for as long as a call takes: one that was asked a moment ago for
// the first time has not. A node of which nobody has said by whom
// it is watched is never closed.
type Fence struct {
	prober  *Prober
	hosting Hosting
	log     hclog.Logger

	mu        sync.Mutex
	observers []netip.Addr
	after     time.Duration // zero: not told
	patience  time.Duration
	closed    bool      // or nobody has said yet that it may open
	failed    bool      // to close, so that it is tried again
	heard     time.Time // since when it is closed and hears most; zero: it does not
	asks      bool
	changed   chan struct{} // holds one when asks has become true
}

// NewFence makes a fence that is closed to begin with, but does not close hosting for that:
// what an agent left open before goes on.
func NewFence(prober *Prober, hosting Hosting, log hclog.Logger) *Fence {
	return &Fence{prober: prober, hosting: hosting, log: log, closed: true, changed: make(chan struct{}, 1)}
}

// Run looks until ctx ends. Everything stays as it is then.
func (f *Fence) Run(ctx context.Context) error {
	probe := false
	for {
		f.mu.Lock()
		pause := idle
		if f.after > 0 && (f.closed || f.hosting.Hosts()) {
			pause = f.after / looks
			if probe = !probe; probe {
				for _, ip := range f.observers {
					f.prober.Send(ip)
				}
			}
			f.look(ctx, time.Now())
		}
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// look closes or asks, if it is time. The caller holds the lock.
func (f *Fence) look(ctx context.Context, now time.Time) {
	silent := 0
	for _, ip := range f.observers {
		is, _ := f.prober.silent(ip, f.after)
		if _, answered := f.prober.Answered(ip); f.closed && !answered {
			is = true // who has never answered does not say that the node is heard
		}
		if is {
			silent++
		}
	}
	switch cut := silent >= fewest && 2*silent > len(f.observers); {
	case cut && (!f.closed || f.failed):
		// It is closed even if that fails: only Open has hosting go on, when this is over.
		f.closed, f.heard, f.asks = true, time.Time{}, false
		err := f.hosting.Close(ctx)
		if f.failed = err != nil; f.failed {
			f.log.Error("this node is cut off and cannot close its egress IPs, trying again", "error", err)
			return
		}
		f.log.Warn("this node's egress IPs are closed: its observers do not answer, and egress may be giving them to other nodes",
			"silent", silent, "observers", len(f.observers))
	case cut:
		f.heard, f.asks = time.Time{}, false
	case f.closed && f.heard.IsZero():
		f.heard = now
	case f.closed && !f.asks && now.Sub(f.heard) >= f.patience:
		f.asks = true
		select {
		case f.changed <- struct{}{}:
		default:
		}
	}
}

// Asks says whether the node asks egress whether it may open.
func (f *Fence) Asks() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asks
}

// told takes what a replica says of the fence.
func (f *Fence) told(answer *egressv1.ReportReachabilityResponse) error {
	var observers []netip.Addr
	for _, o := range answer.GetObservers().GetObservers() {
		ip, err := netip.ParseAddr(o.GetAddress())
		if err != nil {
			return errors.Join(errors.New("address of observer "+o.GetNode()), err)
		}
		observers = append(observers, ip)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case answer.GetFence() == nil: // an earlier egress
		f.open(0)
		return nil
	case answer.GetFence().AsDuration() < leastInterval || answer.GetFence().AsDuration() >= answer.GetPatience().AsDuration():
		return errors.New("the time after which a node closes its egress IPs makes no sense")
	}
	f.after, f.patience = answer.GetFence().AsDuration(), answer.GetPatience().AsDuration()
	if answer.GetObservers() != nil {
		f.observers = observers
	}
	if answer.MayHost != nil && f.asks {
		f.open(answer.GetMayHost())
	}
	return nil
}

// open opens what is closed. The caller holds the lock.
func (f *Fence) open(revision uint64) {
	if !f.closed {
		return
	}
	f.closed, f.failed, f.asks, f.heard = false, false, false, time.Time{}
	f.hosting.Open(revision)
	f.log.Info("this node counts as alive, its egress IPs may be in force", "revision", revision)
}
