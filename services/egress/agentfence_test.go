package egress

import (
	"context"
	"time"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// fence is why an agent holds nothing while most of its observers are silent.
type fence struct {
	observers map[string]time.Time // when they answered last
	after     time.Duration
	patience  time.Duration
	closed    bool
	heard     time.Time // since when it is closed and hears most
	asks      bool
}

// guard looks at the fence until ctx ends.
func (a *agent) guard(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			a.mu.Lock()
			a.look(now)
			a.mu.Unlock()
		}
	}
}

// look closes or asks, if it is time. The lock is held.
func (a *agent) look(now time.Time) {
	f, silent := &a.fence, 0
	for name, last := range f.observers {
		if a.fabric.answers(a.node, name) {
			f.observers[name] = now
		} else if now.Sub(last) >= f.after {
			silent++
		}
	}
	switch cut := silent >= 2 && 2*silent > len(f.observers); {
	case cut:
		f.closed, f.heard, f.asks = true, time.Time{}, false
		a.hold()
	case f.closed && f.heard.IsZero():
		f.heard = now
	case f.closed && now.Sub(f.heard) >= f.patience:
		f.asks = true
	}
}

// hear takes what a replica says of the fence.
func (a *agent) hear(r *egressv1.ReportReachabilityResponse) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := &a.fence
	f.after, f.patience = r.GetFence().AsDuration(), r.GetPatience().AsDuration()
	if r.GetObservers() != nil {
		last := f.observers
		f.observers = map[string]time.Time{}
		for _, o := range r.GetObservers().GetObservers() {
			if f.observers[o.GetNode()] = last[o.GetNode()]; f.observers[o.GetNode()].IsZero() {
				f.observers[o.GetNode()] = time.Now()
			}
		}
	}
	if r.MayHost != nil && f.asks && a.applied >= r.GetMayHost() {
		f.closed, f.asks = false, false
		a.hold()
	}
}

// hold has in force what the agent was told, if the fence lets it. The lock is held.
func (a *agent) hold() {
	if a.fence.closed {
		a.fabric.hold(a.node, nil)
		return
	}
	a.fabric.hold(a.node, a.told)
}
