package svcsync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/damask-sdn/damask/internal/serviceview"
)

// What is around the engine, in the order of a pass: switch and holder before it, so
// that no packet reaches a rule that is not there; holder and switch after it, so that
// none is led where nothing is yet.

// closeGone has the switch close what is no more.
func (s *Syncer) closeGone(ctx context.Context, failed failures) {
	var gone []serviceview.Name
	for name := range s.pending {
		if _, open := s.opened[name]; open && s.ledger.plans[name].opening.empty() {
			gone = append(gone, name)
		}
	}
	if len(gone) == 0 {
		return
	}
	slices.SortFunc(gone, compareNames)
	if err := s.cfg.Flows.Open(ctx, nil, gone); err != nil {
		for _, name := range gone {
			failed.add(name, fmt.Errorf("close in the switch: %w", err))
		}
		return
	}
	for _, name := range gone {
		delete(s.opened, name)
	}
}

// open has the switch open what is new or different.
func (s *Syncer) open(ctx context.Context, failed failures) {
	var opened []Opening
	for name := range s.pending {
		now := s.ledger.plans[name].opening
		if had, open := s.opened[name]; !now.empty() && !(open && had.equal(now)) {
			opened = append(opened, now)
		}
	}
	if len(opened) == 0 {
		return
	}
	slices.SortFunc(opened, func(a, b Opening) int { return compareNames(a.Service, b.Service) })
	if err := s.cfg.Flows.Open(ctx, opened, nil); err != nil {
		for _, o := range opened {
			failed.add(o.Service, fmt.Errorf("open in the switch: %w", err))
		}
		return
	}
	for _, o := range opened {
		s.opened[o.Service] = o
	}
}

// hold has the holder take over what is idle now, before the engine knows that it has
// no backends. With all, everything is compared instead, in one call.
func (s *Syncer) hold(ctx context.Context, all bool, failed failures) {
	if s.cfg.Idle == nil {
		return
	}
	for _, name := range slices.SortedFunc(maps.Keys(s.pending), compareNames) {
		now := s.ledger.plans[name].frontends
		if len(now) == 0 || slices.Equal(now, s.held[name]) {
			continue
		}
		if !all {
			if err := s.cfg.Idle.Hold(ctx, name, now); err != nil {
				failed.add(name, fmt.Errorf("hold connections: %w", err))
				continue
			}
		}
		s.held[name] = now
	}
	if !all {
		return
	}
	if err := s.cfg.Idle.Sync(ctx, maps.Clone(s.held)); err != nil {
		s.doubted.Store(true)
		for name := range s.held {
			failed.add(name, fmt.Errorf("compare what is held: %w", err))
		}
	}
}

// release has the holder let go what is idle no more.
func (s *Syncer) release(ctx context.Context, failed failures) {
	for _, name := range slices.SortedFunc(maps.Keys(s.pending), compareNames) {
		if _, held := s.held[name]; !held || len(s.ledger.plans[name].frontends) > 0 {
			continue
		}
		if err := s.cfg.Idle.Release(ctx, name); err != nil {
			failed.add(name, fmt.Errorf("release connections: %w", err))
			continue
		}
		delete(s.held, name)
	}
}

// serveHealth tells who answers load balancers, if something is different or did not
// work before.
func (s *Syncer) serveHealth(failed failures) {
	if s.cfg.Health == nil {
		return
	}
	changed := s.unserved
	for name := range s.pending {
		changed = s.updateHealth(name) || changed
	}
	if !changed {
		return
	}
	unserved := s.cfg.Health.Serve(maps.Clone(s.health))
	for name, err := range unserved {
		failed.add(name, err)
	}
	s.unserved = len(unserved) > 0
}

// updateHealth takes over a service's port, and says whether something changed.
func (s *Syncer) updateHealth(name serviceview.Name) (changed bool) {
	now := s.ledger.plans[name]
	if old, had := s.healthPort[name]; had && old != now.health {
		delete(s.healthPort, name)
		if s.health[old].Service == name {
			delete(s.health, old)
			changed = true
		}
	}
	if now.health == 0 {
		return changed
	}
	s.healthPort[name] = now.health
	if h := (Health{Service: name, LocalReady: now.ready}); s.health[now.health] != h {
		s.health[now.health] = h
		changed = true
	}
	return changed
}

// audited is what an audit found.
type audited struct {
	repairs []string
	err     error
}

// errStopped is answered to who asks an agent that stops.
var errStopped = errors.New("the agent is stopping")

// Audit compares everything now, and answers what it repaired, in words. It does
// nothing while services are not known yet.
func (s *Syncer) Audit(ctx context.Context) ([]string, error) {
	select {
	case <-s.started:
	default:
		return nil, nil
	}
	answer := make(chan audited, 1)
	select {
	case s.requests <- answer:
	case <-s.stopped:
		return nil, errStopped
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the comparison of services: %w", ctx.Err())
	}
	select {
	case a := <-answer:
		return a.repairs, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("compare services: %w", ctx.Err())
	}
}

// answer makes the pass that somebody asked for.
func (s *Syncer) answer(ctx context.Context, to chan<- audited) {
	s.doubted.Store(true)
	repaired, err := s.passed(ctx)
	a := audited{err: err}
	if !repaired.None() {
		a.repairs = []string{fmt.Sprintf("engine %s of services: %d rules or elements put in, %d taken out",
			s.cfg.Engines.Name, repaired.Added, repaired.Removed)}
	}
	to <- a
}
