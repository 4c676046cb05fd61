package egress

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/follow"
	"github.com/damask-sdn/damask/internal/identity"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// fabric is the overlay between agents: who answers, and who holds what.
type fabric struct {
	t  testing.TB
	mu sync.Mutex

	dead    map[string]bool            // nodes without power
	cut     map[[2]string]bool         // by observer and target, who hears nothing of whom
	denied  map[[2]string]int          // how often an observer reported that a target does not answer
	held    map[string]map[string]bool // addresses by node
	took    map[string][]string        // by address, the nodes that came to hold it
	twice   []string                   // moments in which two living nodes held one address
	changed chan struct{}              // closed and replaced at each change of held
}

func newFabric(t testing.TB) *fabric {
	f := &fabric{
		t: t, dead: map[string]bool{}, cut: map[[2]string]bool{}, denied: map[[2]string]int{},
		held: map[string]map[string]bool{}, took: map[string][]string{}, changed: make(chan struct{}),
	}
	t.Cleanup(func() {
		for _, problem := range f.twice {
			t.Error(problem)
		}
	})
	return f
}

// answers says whether an observer hears a target.
func (f *fabric) answers(observer, target string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.dead[target] && !f.cut[[2]string{observer, target}]
}

// sever lets two nodes hear nothing of each other.
func (f *fabric) sever(a, b string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut[[2]string{a, b}], f.cut[[2]string{b, a}] = true, true
}

// deny counts a report.
func (f *fabric) deny(observer, target string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.denied[[2]string{observer, target}]++
	f.signal()
}

// signal wakes whoever waits. The lock is held.
func (f *fabric) signal() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// hold makes a node hold exactly these addresses.
func (f *fabric) hold(node string, addresses map[string]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead[node] {
		return
	}
	for ip := range addresses {
		if !f.held[node][ip] {
			f.took[ip] = append(f.took[ip], node)
		}
	}
	f.held[node] = addresses
	for other, list := range f.held {
		for ip := range list {
			if other != node && addresses[ip] && !f.dead[other] {
				f.twice = append(f.twice, fmt.Sprintf("%s and %s both hold %s", other, node, ip))
			}
		}
	}
	f.signal()
}

// kill takes a node's power: it answers nobody, and holds nothing.
func (f *fabric) kill(node string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead[node] = true
	delete(f.held, node)
}

// until waits until a node holds exactly these addresses, and answers how long
// that took.
func (f *fabric) until(node string, want ...string) time.Duration {
	f.t.Helper()
	began := time.Now()
	f.await(func() (string, bool) {
		got := slices.Sorted(maps.Keys(f.held[node]))
		return fmt.Sprintf("%s holds %v, want %v", node, got, want), slices.Equal(got, want)
	})
	return time.Since(began)
}

// await waits until something is so, and says what is instead if it never is.
func (f *fabric) await(so func() (instead string, is bool)) {
	f.t.Helper()
	for ctx := soon(f.t); ; {
		f.mu.Lock()
		instead, is := so()
		changed := f.changed
		f.mu.Unlock()
		if is {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			f.t.Fatal(instead)
		}
	}
}

// agent is a node's agent as far as egress is concerned: it tells its network,
// watches whom it is told to, and holds what it is told to.
type agent struct {
	fabric  *fabric
	node    string
	changed chan struct{}
	hosting *follow.Follower[*egressv1.EgressHosting]

	mu      sync.Mutex
	applied uint64
	told    map[string]bool // what it has to hold
	fence   fence
}

// startAgent starts an agent with a stream to every replica; stop kills it.
func (s *system) startAgent(f *fabric, node string, network string) (stop func()) {
	t := s.t
	t.Helper()
	a := &agent{fabric: f, node: node, changed: make(chan struct{}, 1)}
	c := s.as(identity.Node(node))
	if _, err := c.ReportNetworks(soon(t), &egressv1.ReportNetworksRequest{Node: node, Networks: []string{network}}); err != nil {
		t.Fatal(err)
	}
	a.hosting = follow.New(s.connect(identity.Node(node)), follow.Source[*egressv1.EgressHosting]{
		Service: "egress", Kind: "egresshosting", Name: (*egressv1.EgressHosting).GetNode, Revision: (*egressv1.EgressHosting).GetRevision,
		List: func(ctx context.Context, names []string) ([]*egressv1.EgressHosting, uint64, error) {
			page, err := c.ListEgressHostings(ctx, &egressv1.ListEgressHostingsRequest{Nodes: names})
			return page.GetEgressHostings(), page.GetSequence(), err
		},
	}, follow.Options[*egressv1.EgressHosting]{Log: hclog.NewNullLogger(), OnChange: func(e follow.Event[*egressv1.EgressHosting]) { a.apply(e) }})
	a.hosting.Want(node)
	stops := []func(){background(t, a.hosting.Run), background(t, a.guard)}
	for _, address := range s.replica {
		stream := s.as(identity.Node(node), address)
		stops = append(stops, background(t, func(ctx context.Context) error {
			for ctx.Err() == nil {
				a.report(ctx, stream)
			}
			return nil
		}))
	}
	return func() {
		f.kill(node)
		for _, stop := range stops {
			stop()
		}
	}
}

func (a *agent) apply(e follow.Event[*egressv1.EgressHosting]) {
	addresses := map[string]bool{}
	for _, h := range e.Object.GetAddresses() {
		addresses[h.GetIp()] = true
	}
	a.mu.Lock()
	a.told = addresses
	a.hold()
	a.applied = e.Revision
	a.mu.Unlock()
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// report holds one stream.
func (a *agent) report(ctx context.Context, c client) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.ReportReachability(ctx)
	if err != nil {
		return
	}
	first, err := stream.Recv()
	if err != nil {
		return
	}
	var mu sync.Mutex
	targets, silent := first.GetTargets(), map[string]time.Time{}
	a.hear(first)
	go func() {
		defer cancel()
		for {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			mu.Lock()
			targets = r.GetTargets()
			mu.Unlock()
			a.hear(r)
		}
	}()
	probe := time.NewTicker(first.GetProbeInterval().AsDuration())
	defer probe.Stop()
	for {
		request := &egressv1.ReportReachabilityRequest{}
		mu.Lock()
		for _, target := range targets {
			// Patience is kept here: silence counts from the last answer.
			if a.fabric.answers(a.node, target.GetNode()) {
				silent[target.GetNode()] = time.Now()
			}
			last, known := silent[target.GetNode()]
			if known {
				request.Observations = append(request.Observations, &egressv1.Observation{
					Target: target.GetNode(), Reachable: time.Since(last) < first.GetPatience().AsDuration(),
				})
			} else {
				silent[target.GetNode()] = time.Now()
			}
		}
		mu.Unlock()
		a.mu.Lock()
		request.HostingRevision, request.AsksToHost = a.applied, a.fence.asks
		a.mu.Unlock()
		if stream.Send(request) != nil {
			return
		}
		for _, o := range request.GetObservations() {
			if !o.GetReachable() {
				a.fabric.deny(a.node, o.GetTarget())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-probe.C:
		case <-a.changed:
		}
	}
}
