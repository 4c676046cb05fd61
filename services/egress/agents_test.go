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
	held    map[string]map[string]bool // addresses by node
	twice   []string                   // moments in which two living nodes held one address
	changed chan struct{}              // closed and replaced at each change of held
}

func newFabric(t testing.TB) *fabric {
	f := &fabric{t: t, dead: map[string]bool{}, held: map[string]map[string]bool{}, changed: make(chan struct{})}
	t.Cleanup(func() {
		for _, problem := range f.twice {
			t.Error(problem)
		}
	})
	return f
}

func (f *fabric) answers(node string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.dead[node]
}

// hold makes a node hold exactly these addresses.
func (f *fabric) hold(node string, addresses map[string]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead[node] {
		return
	}
	f.held[node] = addresses
	for other, list := range f.held {
		for ip := range list {
			if other != node && addresses[ip] && !f.dead[other] {
				f.twice = append(f.twice, fmt.Sprintf("%s and %s both hold %s", other, node, ip))
			}
		}
	}
	close(f.changed)
	f.changed = make(chan struct{})
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
	began, ctx := time.Now(), soon(f.t)
	for {
		f.mu.Lock()
		got, changed := slices.Sorted(maps.Keys(f.held[node])), f.changed
		f.mu.Unlock()
		if slices.Equal(got, want) {
			return time.Since(began)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			f.t.Fatalf("%s holds %v, want %v", node, got, want)
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
	stops := []func(){background(t, a.hosting.Run)}
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
	a.fabric.hold(a.node, addresses)
	a.mu.Lock()
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
		}
	}()
	probe := time.NewTicker(first.GetProbeInterval().AsDuration())
	defer probe.Stop()
	for {
		request := &egressv1.ReportReachabilityRequest{}
		mu.Lock()
		for _, target := range targets {
			// Patience is kept here: silence counts from the last answer.
			if a.fabric.answers(target.GetNode()) {
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
		request.HostingRevision = a.applied
		a.mu.Unlock()
		if stream.Send(request) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-probe.C:
		case <-a.changed:
		}
	}
}
