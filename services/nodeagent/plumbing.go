package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/nodeagent/attach"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
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
	hostIP     netip.Addr
	datapath   string
	maskBit    uint8
	every      time.Duration
	log        hclog.Logger

	wake    chan struct{}
	repairs atomic.Uint64

	passing  sync.Mutex // one pass at a time: Audit may be asked for any time
	restored bool       // under passing: the pods that live here are in the state
	resolved bool       // under passing: so are the services that the agent began with
	cleared  bool       // under passing: nothing is left of egress IPs where there are none
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
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			p.log.Warn("pass did not work, trying again", "error", err, "pause", pause)
			retry = time.After(pause)
			pause = min(2*pause, retryMost)
		} else {
			pause = retryFirst
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-audit.C:
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
	var a audit
	err := p.node(ctx, network, &a)
	if err == nil {
		err = p.flows(ctx, network, &a)
	}
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

// node makes bridge, tun0 and iptables right.
func (p *plumbing) node(ctx context.Context, network intent.Network, a *audit) error {
	if network.Node.HostIP != p.hostIP {
		return fmt.Errorf("the node is registered with address %s, and configured with %s", network.Node.HostIP, p.hostIP)
	}
	underlay, err := p.links.FindUnderlay(ctx, p.hostIP)
	if err != nil {
		return fmt.Errorf("find the underlay: %w", err)
	}
	tunnel := bridge.Tunnel{Type: bridge.TunnelType(network.Tunnel), Port: network.Node.TunnelPort}
	mtu := network.MTU
	if mtu == 0 {
		mtu = underlay.MTU - tunnel.Overhead()
	}
	if mtu > underlay.MTU-tunnel.Overhead() {
		p.log.Warn("pods' packets will not fit into the tunnel", "mtu", mtu, "underlay_mtu", underlay.MTU, "overhead", tunnel.Overhead())
	}
	p.mu.Lock()
	p.mtu, p.underlay = mtu, underlay
	p.mu.Unlock()

	steps := []func() ([]string, error){
		func() ([]string, error) {
			return p.bridge.EnsureBridge(ctx, bridge.Spec{
				DatapathType: p.datapath, Tunnel: tunnel, MTU: mtu, GatewayMAC: network.Node.GatewayMAC(),
			})
		},
		func() ([]string, error) {
			return p.links.EnsureGateway(ctx, link.Gateway{
				Device: bridge.GatewayPort, Bridge: p.bridge.Name(),
				Address:         netip.PrefixFrom(network.Node.Gateway, network.Node.Subnet.Bits()),
				ClusterNetworks: network.Node.ClusterNetworks, ServiceNetworks: network.Node.ServiceNetworks, MTU: mtu,
			})
		},
		func() ([]string, error) {
			repairs, err := p.rules.Ensure(ctx, masquerade.Config{
				ClusterNetworks: network.Node.ClusterNetworks, ServiceNetworks: network.Node.ServiceNetworks,
				TunnelPort: network.Node.TunnelPort, MasqueradeBit: p.maskBit,
				Userspace: p.datapath == datapathNetdev,
			})
			a.rules = len(repairs) > 0
			return repairs, err
		},
		func() ([]string, error) {
			if p.egress == nil {
				return nil, nil
			}
			return p.egress.ensure(ctx, network, p.maskBit, p.datapath == datapathNetdev)
		},
		func() ([]string, error) { return p.links.EnsureQuarantine(ctx, p.pods.devices()) },
	}
	var errs []error
	for _, step := range steps {
		repairs, err := step()
		a.repairs = append(a.repairs, repairs...)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// flows compares the switch's flows, once it is known what all of them should be.
// The rules of host ports come before: pods are added when the pass is through.
func (p *plumbing) flows(ctx context.Context, network intent.Network, a *audit) error {
	if !p.restored {
		if err := p.pods.restore(ctx); err != nil {
			return err
		}
		p.restored = true
	}
	if missing := append(p.state.Missing(), p.pods.unresolved()...); len(missing) > 0 {
		p.notReady(missing...)
		return nil
	}
	repairs, err := p.hostPorts.ensure(ctx, network)
	a.repairs = append(a.repairs, repairs...)
	if err != nil {
		return err
	}
	if !p.resolved && p.services != nil {
		p.services.resolve(ctx)
	}
	if !p.resolved && p.egress != nil {
		p.egress.resolve(ctx)
		p.firewalls.resolve(ctx)
	}
	if !p.resolved && p.state.PoliciesDecide() {
		if err := p.policies.resolve(ctx); err != nil {
			return err
		}
	}
	p.resolved = true
	if p.firewalls != nil {
		repairs, err := p.firewalls.ensure(ctx)
		a.repairs = append(a.repairs, repairs...)
		if err != nil {
			return err
		}
	}
	diff, err := p.programmer.Reconcile(ctx)
	if err != nil {
		return err
	}
	a.flows = diff
	if _, err := p.bridge.ClearFlowRestoreWait(ctx); err != nil {
		return err
	}
	p.askFor(ctx, p.state.Remotes())
	p.notReady()
	return nil
}

// hosted compares the egress IPs of this node, once flows were. What they lack is told
// as theirs, and does not keep pods from being added.
func (p *plumbing) hosted(ctx context.Context, a *audit) error {
	if p.egress == nil {
		if p.cleared || !p.resolved {
			return nil
		}
		repairs, err := clearEgress(ctx, "", p.hostIP, p.rules, p.log)
		a.repairs = append(a.repairs, repairs...)
		p.cleared = err == nil
		return err
	}
	repairs, err := p.egress.host.Audit(ctx)
	a.repairs = append(a.repairs, repairs...)
	p.egress.host.Wake()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		p.log.Debug("egress IPs are not all in force", "error", err)
	}
	return nil
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
	if strings.Join(missing, ";") != strings.Join(p.missing, ";") {
		if len(missing) == 0 {
			p.log.Info("node is ready", "mtu", p.mtu)
		} else {
			p.log.Info("node is not ready", "missing", strings.Join(missing, "; "))
		}
	}
	p.missing = missing
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
