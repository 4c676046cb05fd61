// Package watch runs the nodes' streams: who watches whom, what they see, and
// what follows from it.
//
// It owns this replica's judge and the connected nodes. It promises that a
// node's newest stream is the one that counts, that what is seen is judged at
// once, and that a node without a stream has no vote. It must not decide where
// anything is hosted; package facts is told which nodes are down.
package watch

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/services/egress/facts"
	"github.com/damask-sdn/damask/services/egress/liveness"
)

const (
	// judgeEvery is how often nodes are judged without any report.
	judgeEvery = 100 * time.Millisecond
	// replanEvery is how often the plan of who watches whom may change: many
	// nodes come at once when a service starts.
	replanEvery = 200 * time.Millisecond
)

// Target is a node to watch.
type Target struct {
	// Node is its name.
	Node string
	// Address is where it answers over the overlay.
	Address netip.Addr
}

// Hub is the meeting place of streams. It is safe for concurrent use.
type Hub struct {
	book  *facts.Book
	rules liveness.Rules
	log   hclog.Logger

	mu       sync.Mutex
	judge    *liveness.Judge
	sessions map[string]*Session
	stale    bool // who watches whom must be planned anew
	begun    bool // what is stored of nodes was taken over
}

// New returns a hub without streams.
func New(book *facts.Book, rules liveness.Rules, log hclog.Logger) *Hub {
	return &Hub{book: book, rules: rules, log: log, judge: liveness.NewJudge(rules), sessions: map[string]*Session{}}
}

// Rules answers the times of the decision.
func (h *Hub) Rules() liveness.Rules { return h.rules }

// Session is one node's stream.
type Session struct {
	hub     *Hub
	node    string
	ended   chan struct{}
	changed chan struct{}
	targets []Target
}

// Connect begins a node's stream, and ends an older one of the same node.
func (h *Hub) Connect(node string) *Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.sessions[node]; old != nil {
		close(old.ended)
	}
	s := &Session{hub: h, node: node, ended: make(chan struct{}), changed: make(chan struct{}, 1)}
	h.sessions[node] = s
	h.stale = true
	s.changed <- struct{}{} // the first plan, even if it is empty
	return s
}

// Ended is closed when a newer stream of the node took over.
func (s *Session) Ended() <-chan struct{} { return s.ended }

// Changed is signalled when Targets must be sent again.
func (s *Session) Changed() <-chan struct{} { return s.changed }

// Targets answers what the node shall watch.
func (s *Session) Targets() []Target {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.targets
}

// Report takes over all that a node sees, and which revision of its hosting it
// has made true.
func (s *Session) Report(answers map[string]bool, revision uint64) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.hub.sessions[s.node] != s || !s.hub.begun {
		return
	}
	now := time.Now()
	s.hub.judge.Report(now, s.node, answers)
	s.hub.decide(now)
	s.hub.book.Confirm(s.node, revision)
}

// Close ends the stream.
func (s *Session) Close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.hub.sessions[s.node] != s {
		return
	}
	delete(s.hub.sessions, s.node)
	s.hub.judge.Leave(s.node)
	s.hub.stale = true
	s.hub.book.Confirm(s.node, 0)
}

// decide passes on what changed. The lock is held.
func (h *Hub) decide(now time.Time) {
	for _, v := range h.judge.Decide(now) {
		h.log.Info("health of a node", "node", v.Node, "usable", v.Usable(), "failures", v.Failures)
		h.book.SetHealth(v)
	}
}

// Begin takes over what an earlier replica decided. What is stored of nodes is
// known when it is called; reports before it do not count.
func (h *Hub) Begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, n := range h.book.EgressNodes() {
		h.judge.Inherit(liveness.Verdict{
			Node: name, Health: liveness.Health(n.GetHealth()), Since: n.GetSince().AsTime(), Failures: n.GetFailures(),
		})
		h.book.SetHealth(h.judge.Verdict(name))
	}
	h.begun = true
}

// Run judges and plans until ctx ends. All facts are known when it is called.
func (h *Hub) Run(ctx context.Context) error {
	judge, replan := time.NewTicker(judgeEvery), time.NewTicker(replanEvery)
	defer judge.Stop()
	defer replan.Stop()
	var planned []Target
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-judge.C:
			h.mu.Lock()
			h.decide(now)
			h.mu.Unlock()
		case <-replan.C:
			targets := h.targets()
			h.mu.Lock()
			h.forget()
			if h.stale || !slices.Equal(targets, planned) {
				h.plan(targets)
				planned, h.stale = targets, false
			}
			h.mu.Unlock()
		}
	}
}

// forget drops what was decided about nodes that are gone. The lock is held.
func (h *Hub) forget() {
	subnets := h.book.HostSubnets()
	for _, name := range h.judge.Nodes() {
		if subnets[name] == nil {
			h.judge.Forget(name)
			h.book.SetHealth(h.judge.Verdict(name))
		}
	}
}

// targets answers the nodes that may host or do, in order: those are watched.
func (h *Hub) targets() []Target {
	var list []Target
	for name, subnet := range h.book.HostSubnets() {
		if !h.book.MayHost(name) || len(subnet.GetSubnets()) == 0 {
			continue
		}
		if prefix, err := netip.ParsePrefix(subnet.GetSubnets()[0]); err == nil {
			list = append(list, Target{Node: name, Address: prefix.Addr().Next()})
		}
	}
	slices.SortFunc(list, func(a, b Target) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
	return list
}

// plan tells every connected node what to watch. The lock is held.
func (h *Hub) plan(targets []Target) {
	byName := map[string]Target{}
	for _, t := range targets {
		byName[t.Node] = t
	}
	plan := liveness.Watchers(slices.Sorted(maps.Keys(byName)), slices.Sorted(maps.Keys(h.sessions)))
	for node, s := range h.sessions {
		list := make([]Target, len(plan[node]))
		for i, name := range plan[node] {
			list[i] = byName[name]
		}
		if slices.Equal(list, s.targets) {
			continue
		}
		s.targets = list
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
}
