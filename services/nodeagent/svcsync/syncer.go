package svcsync

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/serviceview"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

const (
	// retryFirst and retryMost bound the pause before what did not work is tried again;
	// it doubles in between.
	retryFirst = 100 * time.Millisecond
	retryMost  = 10 * time.Second
	// patience is how long an agent that starts while servicelb is away waits before it
	// trusts what it knew when it last ran. The kernel's rules are in force meanwhile.
	patience = 2 * time.Second
)

// source is a follower of one kind of objects, whole (internal/follow).
type source[T any] interface {
	Get(name string) (T, bool)
	Snapshot() map[string]T
	Synced(ctx context.Context) error
	Cached() bool
}

// flows are the tables of the switch that lead pods to services (package intent).
type flows interface {
	// Open has what pods send to these services led to the node's kernel, and what
	// pods send to those that are gone led nowhere. It answers when that is so.
	// ErrSwitchAway: it will be so once the switch is there, without another call.
	Open(ctx context.Context, opened []Opening, gone []serviceview.Name) error
}

// ErrSwitchAway: the switch has not been compared with what it should be yet.
var ErrSwitchAway = errors.New("the switch is not ready")

// Config is what a Syncer works with. All but Hosts, Health and Idle are required.
type Config struct {
	// Node is from where services are seen. Its zone may change: see Zone.
	Node serviceview.Node
	// Engines are the one to use, and those whose rules may be left over.
	Engines Engines
	// View answers what the engine must know of the node; false until it is known.
	View func() (proxy.Node, bool)
	// Hosts answers the address of another node; false if it is not known, or that node's
	// node ports cannot be asked. NodesChanged says that it may answer something else
	// now. Nil: the same as false.
	Hosts func(node string) (netip.Addr, bool)
	// Flows is the switch.
	Flows flows
	// Audit is how often everything is compared; less often when that takes long.
	Audit time.Duration
	// Health answers load balancers; nil: nobody does.
	Health healthPorts
	// Idle holds connections to idle services; nil: nobody does, and they are refused
	// as those to any service without backends.
	Idle holder
	// Log is for what an operator should know.
	Log hclog.Logger
}

// Syncer is the loop. Make it with New, give it its sources by Follow, then Run it.
type Syncer struct {
	cfg      Config
	services source[*servicelbv1.Service]
	slices   source[*servicelbv1.EndpointSlice]

	marks    *marks
	statuses *statuses
	metrics  *Metrics
	requests chan chan<- audited
	audits   chan time.Duration // another Config.Audit
	doubted  atomic.Bool
	zone     atomic.Pointer[string] // another one than Config.Node's; nil: taken over
	moved    atomic.Bool            // nodes have changed
	begun    chan struct{}          // closed when Flows has what the agent begins with
	started  chan struct{}          // closed when everything is known
	stopped  chan struct{}          // closed when Run ends

	loop // what the loop alone touches
}

// loop is what the goroutine of Run owns.
type loop struct {
	ledger     *ledger
	engine     *engine
	pending    map[serviceview.Name]*pending
	opened     map[serviceview.Name]Opening    // what the switch has
	held       map[serviceview.Name][]Frontend // what the holder has
	health     map[uint16]Health               // what is served
	healthPort map[serviceview.Name]uint16     // and by which service
	unserved   bool                            // some of it is not, and is to be tried again
	said       string                          // the last reason that was logged
	reproached map[string]string               // by service, the same
}

// New makes a Syncer. It does nothing before Run.
func New(cfg Config) *Syncer {
	s := &Syncer{
		cfg: cfg, marks: newMarks(), statuses: newStatuses(), metrics: newMetrics(),
		requests: make(chan chan<- audited), audits: make(chan time.Duration, 1), begun: make(chan struct{}), started: make(chan struct{}), stopped: make(chan struct{}),
	}
	s.loop = loop{
		ledger: newLedger(cfg.Node, cfg.Hosts, cfg.Idle != nil), engine: newEngine(cfg.Engines, s.metrics, cfg.Log),
		pending: map[serviceview.Name]*pending{}, opened: map[serviceview.Name]Opening{},
		held: map[serviceview.Name][]Frontend{}, health: map[uint16]Health{}, healthPort: map[serviceview.Name]uint16{},
		reproached: map[string]string{},
	}
	return s
}

// Follow names the followers of Services and EndpointSlices. It must be called before
// Run; the followers tell of changes by ServiceChanged and SliceChanged.
func (s *Syncer) Follow(services source[*servicelbv1.Service], slices source[*servicelbv1.EndpointSlice]) {
	s.services, s.slices = services, slices
}

// ServiceChanged says that a service (NAMESPACE/NAME) came, changed or went, and with
// which revision. It never blocks.
func (s *Syncer) ServiceChanged(name string, revision uint64) { s.marks.service(name, revision) }

// SliceChanged says the same of an EndpointSlice.
func (s *Syncer) SliceChanged(name string, revision uint64) { s.marks.slice(name, revision) }

// NodesChanged says that Hosts may answer something else now. It never blocks.
func (s *Syncer) NodesChanged() {
	s.moved.Store(true)
	s.marks.nudge()
}

// Wake says that View may answer something else now. It never blocks.
func (s *Syncer) Wake() { s.marks.nudge() }

// Zone says that services are seen from another zone now than Config.Node's; empty: none is
// known. All services are worked out anew, and programmed where they differ. It never blocks.
func (s *Syncer) Zone(zone string) {
	s.zone.Store(&zone)
	s.marks.nudge()
}

// Doubt says that somebody may have changed the engine's rules, or put others before
// them. Everything is compared. It never blocks.
func (s *Syncer) Doubt() {
	s.doubted.Store(true)
	s.marks.nudge()
}

// AuditEvery says how often everything is compared from now on, instead of Config.Audit. It
// never blocks, and is called by one goroutine at a time.
func (s *Syncer) AuditEvery(interval time.Duration) {
	select {
	case <-s.audits:
	default:
	}
	s.audits <- interval
}

// Begun is closed when Flows has been told of the services that the agent begins with,
// or when it is clear that none are known. Who would take out flows that are nobody's
// waits for it: those of services are nobody's before.
func (s *Syncer) Begun() <-chan struct{} { return s.begun }

// Metrics answers what the syncer counts.
func (s *Syncer) Metrics() *Metrics { return s.metrics }

// Statuses answers how far the node is with every Service and EndpointSlice.
func (s *Syncer) Statuses() []Status { return s.statuses.all() }

// WaitProgrammed answers when the object is in force at the revision or a later one.
// It waits for objects that this node has not heard of yet; followed is false when it
// has heard of something later instead. When ctx ends first, the error is the
// object's, or that of ctx.
func (s *Syncer) WaitProgrammed(ctx context.Context, kind, name string, revision uint64) (followed bool, programmed uint64, err error) {
	return s.statuses.wait(ctx, object{kind, name}, revision)
}

// Run keeps the node at what the services say until ctx ends. It leaves everything as
// it is then.
func (s *Syncer) Run(ctx context.Context) error {
	defer close(s.stopped)
	defer s.engine.close()
	if !s.await(ctx) {
		return nil
	}
	s.load(ctx)
	close(s.started)
	audit := time.NewTicker(s.cfg.Audit)
	defer audit.Stop()
	pause := retryFirst
	for {
		wake, retry := s.marks.wake, (<-chan time.Time)(nil)
		if err := s.pass(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			// What is new waits as well: the engine would refuse it as it refused this.
			if errors.As(err, new(engineError)) {
				wake = nil
			}
			retry = time.After(pause)
			pause = min(2*pause, retryMost)
		} else {
			pause = retryFirst
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-retry:
		case now := <-audit.C:
			if now.After(s.engine.rested) {
				s.doubted.Store(true)
			}
		case interval := <-s.audits:
			audit.Reset(interval)
		case answer := <-s.requests:
			s.answer(ctx, answer)
		}
	}
}

// begin closes begun, once.
func (s *Syncer) begin() {
	select {
	case <-s.begun:
	default:
		close(s.begun)
	}
}

// await answers true when all services and endpoints are known: from servicelb or,
// when that does not answer soon, from when the agent last ran.
func (s *Syncer) await(ctx context.Context) bool {
	soon, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	inTime := errors.Join(s.services.Synced(soon), s.slices.Synced(soon)) == nil
	if inTime {
		return true
	}
	if s.services.Cached() && s.slices.Cached() {
		s.cfg.Log.Warn("servicelb does not answer, starting with the services that were known before")
		return ctx.Err() == nil
	}
	s.cfg.Log.Warn("servicelb does not answer, and no services are known from before: none are programmed yet")
	s.begin()
	return s.services.Synced(ctx) == nil && s.slices.Synced(ctx) == nil
}
