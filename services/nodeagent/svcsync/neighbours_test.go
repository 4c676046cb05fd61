package svcsync

import (
	"context"
	"maps"
	"sync"
	"testing"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/serviceview"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// Who a syncer deals with: a real engine, watched, and those that stand for the rest.

// revised is an object of the store.
type revised interface{ GetRevision() uint64 }

// shelf stands for a follower: it holds objects, and says so.
type shelf[T revised] struct {
	mu      sync.Mutex
	objects map[string]T
	cached  bool
	synced  chan struct{} // closed when servicelb has answered
}

func newShelf[T revised]() *shelf[T] {
	s := &shelf[T]{objects: map[string]T{}, synced: make(chan struct{})}
	close(s.synced)
	return s
}

func (s *shelf[T]) Get(name string) (T, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	object, there := s.objects[name]
	return object, there
}

func (s *shelf[T]) Snapshot() map[string]T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.objects)
}

func (s *shelf[T]) Cached() bool { return s.cached }

func (s *shelf[T]) Synced(ctx context.Context) error {
	select {
	case <-s.synced:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *shelf[T]) put(name string, object T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[name] = object
}

func (s *shelf[T]) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, name)
}

// inside is a real engine in a namespace, with a count of what it is asked.
type inside struct {
	t      testing.TB
	ns     *netnstest.Namespace
	engine proxy.Engine

	mu                   sync.Mutex
	broken               error // answered instead of doing anything
	syncs, applies, keys int
	sent                 proxy.Changes // by Syncs
	before               func()        // called before each Apply
}

func (e *inside) Sync(ctx context.Context, state proxy.State) (changes proxy.Changes, err error) {
	e.mu.Lock()
	e.syncs++
	err = e.broken
	e.mu.Unlock()
	if err != nil {
		return changes, err
	}
	e.ns.Do(e.t, func() { changes, err = e.engine.Sync(ctx, state) })
	e.mu.Lock()
	e.sent.Added += changes.Added
	e.sent.Removed += changes.Removed
	e.mu.Unlock()
	return changes, err
}

func (e *inside) Apply(ctx context.Context, changes ...proxy.Change) (err error) {
	e.mu.Lock()
	e.applies++
	e.keys += len(changes)
	err = e.broken
	before := e.before
	e.mu.Unlock()
	if err != nil {
		return err
	}
	if before != nil {
		before()
	}
	e.ns.Do(e.t, func() { err = e.engine.Apply(ctx, changes...) })
	return err
}

func (e *inside) Cleanup(ctx context.Context) (err error) {
	e.ns.Do(e.t, func() { err = e.engine.Cleanup(ctx) })
	return err
}

func (e *inside) breakWith(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.broken = err
}

// counts answers how often the engine was asked.
func (e *inside) counts() (syncs, applies, keys int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.syncs, e.applies, e.keys
}

// switchboard stands for the switch: it remembers what is open.
type switchboard struct {
	mu     sync.Mutex
	err    error
	open   map[serviceview.Name]Opening
	asked  int
	before func(opened []Opening, gone []serviceview.Name)
}

func (s *switchboard) Open(_ context.Context, opened []Opening, gone []serviceview.Name) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.before != nil {
		s.before(opened, gone)
	}
	if s.err != nil {
		return s.err
	}
	for _, o := range opened {
		s.open[o.Service] = o
	}
	for _, name := range gone {
		delete(s.open, name)
	}
	return nil
}

// begin forgets what is open: the state behind it is the agent's, and dies with it.
func (s *switchboard) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.open)
}

func (s *switchboard) breakWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// hands stand for the holder: they remember what is held, and what happened when.
type hands struct {
	mu     sync.Mutex
	held   map[serviceview.Name][]Frontend
	events []string
	look   func() string // says what the kernel has at the moment
}

func newHands(look func() string) *hands {
	return &hands{held: map[serviceview.Name][]Frontend{}, look: look}
}

func (h *hands) note(what string, name serviceview.Name) {
	h.events = append(h.events, what+" "+name.Service+" with "+h.look())
}

func (h *hands) Hold(_ context.Context, name serviceview.Name, frontends []Frontend) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held[name] = frontends
	h.note("hold", name)
	return nil
}

func (h *hands) Release(_ context.Context, name serviceview.Name) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.held, name)
	h.note("release", name)
	return nil
}

func (h *hands) Sync(_ context.Context, held map[serviceview.Name][]Frontend) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = held
	return nil
}

// doors stand for the health-check node ports.
type doors struct {
	mu      sync.Mutex
	ports   map[uint16]Health
	healthy bool
	served  int
	refuse  error
}

func (d *doors) Serve(ports map[uint16]Health) map[serviceview.Name]error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ports = ports
	d.served++
	failed := map[serviceview.Name]error{}
	if d.refuse != nil {
		for _, h := range ports {
			failed[h.Service] = d.refuse
		}
	}
	return failed
}

func (d *doors) Healthy(healthy bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.healthy = healthy
}

func (d *doors) refuseWith(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse = err
}
