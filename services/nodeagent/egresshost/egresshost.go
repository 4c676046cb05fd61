// Package egresshost brings the egress IPs of this node into force, and out of it.
//
// It owns the order. What comes: iptables translates to the address; the address is on
// the interface and announced; the guard opens; and only then flows lead packets here.
// What goes: flows lead no packet here any more, and the switch has said so; the guard
// closes; the address is taken away; the translation goes; and only then egress is told
// that it is gone. It promises that order whatever fails in between: what failed is
// tried again, and nothing that depends on it is done before. An address that cannot be
// held stops no other.
//
// A start is a comparison: what is open is what the last agent left open, the flows are
// compared with that, and after that all of it is brought to what egress says. A node that
// may count as dead is closed: the guard before anything else, and until egress says that
// it counts as alive.
//
// It must not decide what is hosted, and it touches nothing itself: egressnode has the
// addresses, masquerade the rules, egressguard the guard, intent the flows.
package egresshost

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/egressmark"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
)

const (
	// retryFirst and retryMost bound the pause before what did not work is tried again;
	// it doubles in between.
	retryFirst = 50 * time.Millisecond
	retryMost  = 5 * time.Second
)

// ErrSwitchAway is answered by Flows while the switch has not been compared with what it
// should have: it will have what it was told once it is, and nobody knows what it has now.
var ErrSwitchAway = errors.New("the switch is not ready")

// Rules translate marked packets (package masquerade).
type Rules interface {
	SetEgress(ctx context.Context, ips []masquerade.EgressIP) (repairs []string, err error)
}

// Addresses are the node's (package egressnode).
type Addresses interface {
	Hold(ctx context.Context, wanted []netip.Addr) (repairs []string, err error)
	Release(ctx context.Context, keep []netip.Addr) (gone []netip.Addr, err error)
}

// Guard lets only the right packets pass (package egressguard).
type Guard interface {
	Translated(ctx context.Context) ([]masquerade.EgressIP, error)
	Narrow(ctx context.Context, keep []masquerade.EgressIP) (closed []masquerade.EgressIP, err error)
	Set(ctx context.Context, all []masquerade.EgressIP, closing []netip.Addr) (repairs []string, err error)
	Forget(ctx context.Context, asked func(from, translated netip.Addr) bool) (int, error)
}

// Flows lead packets to addresses that are ready (package intent).
type Flows interface {
	// Lead has packets led to exactly these addresses, and answers when the switch has
	// that, or ErrSwitchAway. The revision is that of which all are ready.
	Lead(ctx context.Context, revision uint64, ready []*egressv1.HostedAddress) error
	// Failed notes why some of a revision cannot be had.
	Failed(revision uint64, err error)
}

// Config is what a Host works with. All are required.
type Config struct {
	Rules     Rules
	Addresses Addresses
	Guard     Guard
	Flows     Flows
	// Guarded is closed when the guard is there, with what it is to begin with. Before,
	// nothing is done. Nil: it is.
	Guarded <-chan struct{}
	// Confirm says that all addresses which a revision does not have are gone.
	Confirm func(revision uint64)
	// Reserved are the bits that marks must leave alone.
	Reserved egressmark.Reserved
	// Log is for what an operator should know.
	Log hclog.Logger
}

// Host is the loop. Its methods may be called from any goroutine.
type Host struct {
	cfg     Config
	wake    chan struct{}
	metrics *Metrics
	begun   chan struct{} // closed when Flows has what the agent begins with

	mu     sync.Mutex
	wanted *egressv1.EgressHosting // nil: not known

	standing standing

	passing sync.Mutex // one pass at a time
	state
}

// state is what passes know. Under passing.
type state struct {
	led      []entry // what flows lead to, as the switch was told
	revision uint64  // of which all was ready, when it was told
	compared bool    // the switch has said that it has led
	rules    []masquerade.EgressIP
	ruled    bool         // rules are in force, as far as is known
	closing  []netip.Addr // closed, and connections from them are not forgotten yet
	said     string
}

// New makes a Host. It does nothing before Run.
func New(cfg Config) *Host {
	return &Host{cfg: cfg, wake: make(chan struct{}, 1), metrics: newMetrics(), begun: make(chan struct{})}
}

// Want says what this node has to hold now, as egress told; with nothing in it when egress
// knows of nothing. It never blocks. The message is not changed.
func (h *Host) Want(hosting *egressv1.EgressHosting) {
	h.mu.Lock()
	h.wanted = hosting
	h.mu.Unlock()
	h.Wake()
}

// Wake says that something may work now that did not before. It never blocks.
func (h *Host) Wake() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Begun is closed when Flows was told what the agent begins with. Who would take out
// flows that are nobody's waits for it.
func (h *Host) Begun() <-chan struct{} { return h.begun }

// Metrics answers what is counted.
func (h *Host) Metrics() *Metrics { return h.metrics }

// Run works until ctx ends. Everything stays as it is then.
func (h *Host) Run(ctx context.Context) error {
	pause := retryFirst
	for {
		retry := (<-chan time.Time)(nil)
		_, err := h.pass(ctx, false)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			pause = retryFirst
		case errors.Is(err, ErrSwitchAway):
			// Whoever compares the switch wakes us.
		default:
			h.complain(err)
			retry = time.After(pause)
			pause = min(2*pause, retryMost)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-h.wake:
		case <-retry:
		}
	}
}

// Audit compares everything now, and answers one line for each repair. Before the switch
// was compared it does nothing.
func (h *Host) Audit(ctx context.Context) (repairs []string, err error) {
	repairs, err = h.pass(ctx, true)
	if errors.Is(err, ErrSwitchAway) {
		return nil, nil
	}
	return repairs, err
}

// complain logs a problem, once.
func (h *Host) complain(err error) {
	h.passing.Lock()
	defer h.passing.Unlock()
	if text := err.Error(); text != h.said {
		h.said = text
		h.cfg.Log.Warn("egress IPs of this node are not all in force, trying again", "error", err)
	}
}

func (h *Host) current() *egressv1.EgressHosting {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wanted
}
