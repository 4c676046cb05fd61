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
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
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
	decides  bool // this replica does
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

	targets   []Target
	observers []Target // who watches the node
	reported  time.Time
	asks      bool    // whether it may host
	may       *uint64 // the answer, until it is sent
}

// Instruction is what a node is told.
type Instruction struct {
	// Targets are the nodes that it shall watch.
	Targets []Target
	// Decides says that this replica decides. The rest is for then.
	Decides bool
	// Observers are the nodes that watch it.
	Observers []Target
	// MayHost is not nil when the node has asked and counts as alive: the revision of
	// what it hosts, 0 if it hosts nothing.
	MayHost *uint64
}

// Connect begins a node's stream, and ends an older one of the same node.
func (h *Hub) Connect(node string) *Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.sessions[node]; old != nil {
		close(old.ended)
	}
	s := &Session{hub: h, node: node, ended: make(chan struct{}), changed: make(chan struct{}, 1), reported: time.Now()}
	h.sessions[node] = s
	h.stale = true
	s.changed <- struct{}{} // the first plan, even if it is empty
	return s
}

// Ended is closed when a newer stream of the node took over.
func (s *Session) Ended() <-chan struct{} { return s.ended }

// Changed is signalled when there is another Instruction.
func (s *Session) Changed() <-chan struct{} { return s.changed }

// Instruction answers what the node is to be told now.
func (s *Session) Instruction() Instruction {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	i := Instruction{Targets: s.targets, Decides: s.hub.decides}
	if i.Decides {
		i.Observers, i.MayHost = s.observers, s.may
	}
	s.may = nil
	return i
}

// signal has the node told. The hub's lock is held.
func (s *Session) signal() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Report takes over all that a node sees, which revision of its hosting it has made true,
// and whether it asks if it may host.
func (s *Session) Report(answers map[string]bool, revision uint64, asks bool) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.hub.sessions[s.node] != s || !s.hub.begun {
		return
	}
	now := time.Now()
	s.asks, s.reported = asks, now
	s.hub.judge.Report(now, s.node, answers)
	s.hub.decide(now)
	s.hub.answer(s)
	s.hub.book.Confirm(s.node, revision)
}

// answer allows a node to host that asks, if it counts as alive. The lock is held.
func (h *Hub) answer(s *Session) {
	node := h.book.Node(s.node)
	if !s.asks || !h.decides || !node.Alive() {
		return
	}
	revision := node.Hosting.GetRevision()
	s.may = &revision
	s.signal()
}

// Decide says whether this replica decides: only then it answers who may host.
func (h *Hub) Decide(decides bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.decides = decides
	for _, s := range h.sessions {
		s.signal()
		h.answer(s)
	}
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
		if s := h.sessions[v.Node]; s != nil {
			h.answer(s)
		}
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
	var reporting []string
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
			if now := h.reporting(); h.stale || !slices.Equal(targets, planned) || !slices.Equal(now, reporting) {
				h.plan(targets, now)
				planned, reporting, h.stale = targets, now, false
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
		if at, known := addressOf(name, subnet); known && h.book.MayHost(name) {
			list = append(list, at)
		}
	}
	slices.SortFunc(list, func(a, b Target) int { return strings.Compare(a.Node, b.Node) })
	return list
}

// reporting answers the nodes that can watch, in order: those from which something was heard a
// short while ago. The lock is held.
func (h *Hub) reporting() []string {
	var all []string
	for node, s := range h.sessions {
		if time.Since(s.reported) < 2*h.rules.Fresh {
			all = append(all, node)
		}
	}
	slices.Sort(all)
	return all
}

// plan tells every connected node what to watch, and by whom it is watched. The lock is held.
func (h *Hub) plan(targets []Target, reporting []string) {
	names := make([]string, len(targets))
	for i, t := range targets {
		names[i] = t.Node
	}
	watches := liveness.Watchers(names, reporting)
	all, observers := map[string][]Target{}, map[string][]Target{}
	subnets := h.book.HostSubnets()
	for _, observer := range slices.Sorted(maps.Keys(watches)) {
		at, known := addressOf(observer, subnets[observer])
		for _, name := range watches[observer] {
			i, _ := slices.BinarySearch(names, name)
			all[observer] = append(all[observer], targets[i])
			if known {
				observers[name] = append(observers[name], at)
			}
		}
	}
	for node, s := range h.sessions {
		if slices.Equal(all[node], s.targets) && slices.Equal(observers[node], s.observers) {
			continue
		}
		s.targets, s.observers = all[node], observers[node]
		s.signal()
	}
}

// addressOf answers where a node answers over the overlay.
func addressOf(node string, subnet *ipamv1.HostSubnet) (Target, bool) {
	if len(subnet.GetSubnets()) == 0 {
		return Target{}, false
	}
	prefix, err := netip.ParsePrefix(subnet.GetSubnets()[0])
	return Target{Node: node, Address: prefix.Addr().Next()}, err == nil
}
