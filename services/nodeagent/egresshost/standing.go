package egresshost

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
)

// errWithheld is why not all of what is wanted is in force.
var errWithheld = errors.New("egress IPs of this node are closed until egress says that it counts as alive")

// Standing says how far this node may do what egress told it last.
type Standing int

const (
	// Proven: all of it.
	Proven Standing = iota
	// Unproven: what the last agent left open, as far as it is still wanted. Nobody has said yet
	// that the node counts as alive.
	Unproven
	// Closed: nothing. The node may count as dead, and others have its egress IPs.
	Closed
)

// standing is how the Host stands. Its lock is held while the guard opens anything, so that
// nothing is opened after the node was closed.
type standing struct {
	mu    sync.Mutex
	is    Standing
	since uint64 // what was told before this revision is not to be done
}

// Distrust has only what is open go on until Open. It is for before Run.
func (h *Host) Distrust() {
	h.standing.mu.Lock()
	defer h.standing.mu.Unlock()
	h.standing.is = Unproven
}

// Close ends everything until Open: first the guard, which is closed when this answers,
// then addresses and flows. Nothing leaves by an egress IP of this node any more.
func (h *Host) Close(ctx context.Context) error {
	h.standing.mu.Lock()
	defer h.standing.mu.Unlock()
	h.standing.is = Closed
	h.metrics.stands(Closed)
	defer h.Wake()
	if _, err := h.cfg.Guard.Narrow(ctx, nil); err != nil {
		return fmt.Errorf("close the egress IPs of a node that is cut off: %w", err)
	}
	return nil
}

// Open has everything in force again that egress told in a revision, or later.
func (h *Host) Open(revision uint64) {
	h.standing.mu.Lock()
	h.standing.is, h.standing.since = Proven, revision
	h.metrics.stands(Proven)
	h.standing.mu.Unlock()
	h.Wake()
}

// Hosts says whether the node has to hold any address.
func (h *Host) Hosts() bool { return len(h.current().GetAddresses()) > 0 }

// allowed answers what of all that is wanted may be in force; led is what is, as it was when
// the agent began. What was told before the node was allowed to open may be another's by now.
func (s *standing) allowed(hosting *egressv1.EgressHosting, want, led []entry) []entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.is == Closed:
		return nil
	case s.is == Unproven || hosting.GetRevision() < s.since:
		return slices.DeleteFunc(slices.Clone(want), func(e entry) bool { return !slices.ContainsFunc(led, e.same) })
	}
	return want
}

// closed says whether the node was closed. One that has just started only waits.
func (s *standing) closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.is == Closed
}

// open opens the guard for what is ready, unless the node was closed meanwhile: then the
// addresses only stay egress IPs, by which nothing leaves, until the next pass.
func (h *Host) open(ctx context.Context, ready []entry, closing []netip.Addr) (repairs []string, err error) {
	h.standing.mu.Lock()
	defer h.standing.mu.Unlock()
	if h.standing.is == Closed {
		return h.cfg.Guard.Set(ctx, []masquerade.EgressIP{}, slices.Concat(closing, addresses(ready)))
	}
	return h.cfg.Guard.Set(ctx, translations(ready), closing)
}
