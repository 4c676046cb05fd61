package nodeagent

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/nodeagent/ancestor"
	"github.com/damask-sdn/damask/services/nodeagent/attach"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/kube"
	"github.com/damask-sdn/damask/services/nodeagent/link"
	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
	"github.com/damask-sdn/damask/services/nodeagent/nodeapi"
)

const (
	// retryFirst and retryMost bound the pause before a pass that did not work
	// is repeated; it doubles in between.
	retryFirst = 100 * time.Millisecond
	retryMost  = 10 * time.Second
)

// plumbing brings the node to what the state says, all of it: bridge, tun0,
// iptables and flows. It runs at start, when the node's own part of the state
// changes, when the switch comes back, and in every audit. A pass is a
// comparison; when nothing differs it changes nothing.
type plumbing struct {
	state      *intent.State
	programmer *intent.Programmer
	bridge     *bridge.Bridge
	links      *link.Links
	rules      *masquerade.Rules
	hostPorts  *hostPorts
	pods       *pods
	register   *registration
	services   *services  // nil: somebody else's
	egress     *egress    // nil: pods leave as their node does
	firewalls  *firewalls // the same
	policies   *policies
	ancestor   ancestor.Node
	metered    func(context.Context) (bool, error) // whether the switch can bound copies of packets
	hostIP     netip.Addr
	datapath   string
	maskBit    uint8
	every      time.Duration
	audits     chan time.Duration // another every
	log        hclog.Logger

	changed func() // told when readiness is another, and does not wait; nil: nobody asks
	wake    chan struct{}
	repairs atomic.Uint64

	// forwards tells that the switch that is connected does not wait for flows.
	forwards atomic.Bool

	passing  sync.Mutex // one pass at a time: Audit may be asked for any time
	restored bool       // under passing: the pods that live here are in the state
	resolved bool       // under passing: so are the services that the agent began with
	cleared  bool       // under passing: nothing is left of egress IPs where there are none
	told     bool       // under passing: services were told that no other agent is at work
	ready    bool       // under passing: a pass has got to its end

	mu       sync.Mutex
	missing  []string // why pods cannot be added yet
	mtu      int
	underlay link.Underlay
}

// Wake asks for a pass. It never blocks.
func (p *plumbing) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// AuditEvery says how often everything is compared from now on. It never blocks, and is called
// by one goroutine at a time.
func (p *plumbing) AuditEvery(interval time.Duration) {
	select {
	case <-p.audits:
	default:
	}
	p.audits <- interval
}

// Connected asks for a pass because a switch is there, or there again: what it holds
// is not known, nor whether it waits.
func (p *plumbing) Connected() {
	p.forwards.Store(false)
	p.Wake()
}

// Run passes when woken, and every so often. It returns when ctx ends.
func (p *plumbing) Run(ctx context.Context) error {
	audit := time.NewTicker(p.every)
	defer audit.Stop()
	pause := retryFirst
	for {
		retry := (<-chan time.Time)(nil)
		a, err := p.Pass(ctx)
		if a.rules && p.services != nil {
			p.services.Doubt() // jumps that are new stand at the top, where those of services belong
		}
		switch {
		case errors.Is(err, errPredecessor):
			retry = time.After(succeedAfter) // it was said, and is no failure
		case err != nil:
			if ctx.Err() != nil {
				return nil
			}
			p.log.Warn("pass did not work, trying again", "error", err, "pause", pause)
			retry = time.After(pause)
			pause = min(2*pause, retryMost)
		default:
			pause = retryFirst
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-audit.C:
		case interval := <-p.audits:
			audit.Reset(interval)
		case <-retry:
		}
	}
}

// audit is what a pass found and repaired.
type audit struct {
	flows   flowsync.Diff
	repairs []string
	rules   bool // iptables were repaired
}

// Pass compares everything and repairs the difference.
func (p *plumbing) Pass(ctx context.Context) (audit, error) {
	p.passing.Lock()
	defer p.passing.Unlock()
	network, known := p.state.Network()
	if !known {
		p.notReady(p.state.Missing()...)
		return audit{}, nil
	}
	if missing := p.register.Missing(network.Node.Subnet); len(missing) > 0 {
		p.notReady(missing...)
		return audit{}, nil
	}
	if err := p.alone(ctx); err != nil {
		p.notReady(err.Error())
		return audit{}, err
	}
	var a audit
	err := p.compare(ctx, network, &a)
	if err == nil {
		err = p.hosted(ctx, &a)
	}
	p.count(a)
	if err != nil {
		p.notReady(err.Error())
		return a, err
	}
	p.mu.Lock()
	p.ready = p.ready || len(p.missing) == 0
	p.mu.Unlock()
	return a, nil
}

// askFor makes neighbours known to a switch that does not ask by itself. What it
// cannot do now the next pass tries again, or the pods' own packets do.
func (p *plumbing) askFor(ctx context.Context, nodes []netip.Addr) {
	p.mu.Lock()
	underlay := p.underlay
	p.mu.Unlock()
	if underlay.Index == 0 {
		return // no pass has found the underlay yet; the first one asks for all
	}
	if err := p.links.AskNeighbours(ctx, underlay, nodes); err != nil && ctx.Err() == nil {
		p.log.Debug("neighbours not asked for", "error", err)
	}
}

// meet asks for a node that has become known, or has moved.
func (p *plumbing) meet(ctx context.Context, hs *ipamv1.HostSubnet) {
	for _, text := range hs.GetHostIps() {
		if addr, err := netip.ParseAddr(text); err == nil {
			p.askFor(ctx, []netip.Addr{addr})
		}
	}
}

// count logs what a pass changed: silence means that nothing differed. What
// the passes until the node is ready change is its set-up; after that it is
// what somebody else has changed, and counted.
func (p *plumbing) count(a audit) {
	n := len(a.repairs) + len(a.flows.Added) + len(a.flows.Modified) + len(a.flows.Deleted)
	if n == 0 {
		return
	}
	message := "node set up"
	if p.ready {
		p.repairs.Add(uint64(n))
		message = "node repaired"
	}
	p.log.Info(message, "flows_added", len(a.flows.Added), "flows_modified", len(a.flows.Modified),
		"flows_deleted", len(a.flows.Deleted), "others", strings.Join(a.repairs, "; "))
}

// notReady remembers what is missing for pods to be added; nothing: ready.
func (p *plumbing) notReady(missing ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	another := strings.Join(missing, ";") != strings.Join(p.missing, ";")
	p.missing = missing
	if !another {
		return
	}
	if len(missing) == 0 {
		p.log.Info("node is ready", "mtu", p.mtu)
	} else {
		p.log.Info("node is not ready", "missing", strings.Join(missing, "; "))
	}
	if p.changed != nil {
		p.changed()
	}
}

// health is nil when pods can be added, and else says why not.
func (p *plumbing) health() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.missing) == 0 {
		return nil
	}
	return errors.New(strings.Join(p.missing, "; "))
}

// readiness is how far the node is, for Kubernetes.
func (p *plumbing) readiness() kube.Readiness {
	p.mu.Lock()
	defer p.mu.Unlock()
	return kube.Readiness{Missing: p.missing, Been: p.ready}
}

// Network answers what new pods get, and what is missing for them.
func (p *plumbing) Network() (attach.Network, []string) {
	network, known := p.state.Network()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !known {
		return attach.Network{}, p.missing
	}
	return attach.Network{
		Subnet: network.Node.Subnet, ClusterNetworks: network.Node.ClusterNetworks, ServiceNetworks: network.Node.ServiceNetworks,
		Underlay: p.underlay.Name, MTU: p.mtu,
	}, p.missing
}

// describe answers what the node is like, for operators.
func (p *plumbing) describe() nodeapi.Plumbing {
	p.mu.Lock()
	defer p.mu.Unlock()
	return nodeapi.Plumbing{MTU: p.mtu, Missing: p.missing, Repairs: p.repairs.Load(), Datapath: p.datapath}
}

// audited is a pass that an operator asked for.
func (p *plumbing) audited(ctx context.Context) (nodeapi.Audited, error) {
	a, err := p.Pass(ctx)
	if p.services != nil {
		repairs, failed := p.services.Audit(ctx)
		a.repairs, err = append(a.repairs, repairs...), errors.Join(err, failed)
	}
	return nodeapi.Audited{
		FlowsWritten: len(a.flows.Added) + len(a.flows.Modified), FlowsDeleted: len(a.flows.Deleted), Repairs: a.repairs,
	}, err
}
