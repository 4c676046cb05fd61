package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/link"
	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
)

// compare makes the node right. What a node needs for its first pod is there before its
// flows are. Later it is the flows that packets may wait for, behind a switch that was
// restarted, while iptables takes its time to be read.
func (p *plumbing) compare(ctx context.Context, network intent.Network, a *audit) error {
	tunnel, err := p.measure(ctx, network)
	if err != nil {
		return err
	}
	if !p.restored {
		if err := p.pods.restorer.Recognise(ctx); err != nil {
			return err
		}
	}
	err = p.switched(ctx, network, tunnel, a)
	if !p.ready {
		if err == nil {
			err = p.living(ctx) // who is here must be known when devices are looked at
		}
		if err = errors.Join(err, p.routed(ctx, network, a)); err != nil {
			return err
		}
		return p.flows(ctx, network, a)
	}
	if err == nil {
		err = p.flows(ctx, network, a)
	}
	return errors.Join(err, p.routed(ctx, network, a))
}

// measure finds the underlay, and what a packet of a pod may be long.
func (p *plumbing) measure(ctx context.Context, network intent.Network) (bridge.Tunnel, error) {
	if network.Node.HostIP != p.hostIP {
		return bridge.Tunnel{}, fmt.Errorf("the node is registered with address %s, and configured with %s", network.Node.HostIP, p.hostIP)
	}
	underlay, err := p.links.FindUnderlay(ctx, p.hostIP)
	if err != nil {
		return bridge.Tunnel{}, fmt.Errorf("find the underlay: %w", err)
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
	return tunnel, nil
}

// switched makes the bridge right.
func (p *plumbing) switched(ctx context.Context, network intent.Network, tunnel bridge.Tunnel, a *audit) error {
	p.mu.Lock()
	mtu := p.mtu
	p.mu.Unlock()
	mac, kept, since, err := p.bridge.GatewayMAC(ctx, link.PodMAC(network.Node.Gateway))
	if err != nil {
		return err
	}
	p.state.KeepGatewayMAC(nil)
	if kept {
		p.state.KeepGatewayMAC(mac)
	}
	if err := p.succeed(ctx, kept && time.Since(since) < succession); err != nil {
		return err
	}
	repairs, err := p.bridge.EnsureBridge(ctx, bridge.Spec{
		DatapathType: p.datapath, Tunnel: tunnel, MTU: mtu, GatewayMAC: mac, KeptMAC: kept,
	})
	a.repairs = append(a.repairs, repairs...)
	return err
}

// routed makes right what the node's kernel does: tun0, iptables, egress IPs.
func (p *plumbing) routed(ctx context.Context, network intent.Network, a *audit) error {
	p.mu.Lock()
	mtu := p.mtu
	p.mu.Unlock()
	steps := []func() ([]string, error){
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
			repairs, err := p.inheritEgress(ctx)
			if err != nil {
				return repairs, err
			}
			lines, err := p.egress.ensure(ctx, network, p.maskBit, p.datapath == datapathNetdev)
			return append(repairs, lines...), err
		},
		func() ([]string, error) { return p.pods.restorer.RestoreBandwidth(ctx), nil },
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

// living takes the pods that live here into the state, once.
func (p *plumbing) living(ctx context.Context) error {
	if p.restored {
		return nil
	}
	if err := p.pods.restore(ctx); err != nil {
		return err
	}
	p.restored = true
	return nil
}

// flows compares the switch's flows, once it is known what all of them should be, and
// the rules of host ports: they come first until pods are added, which is when the pass
// is through, and then last, as in compare.
func (p *plumbing) flows(ctx context.Context, network intent.Network, a *audit) error {
	if err := p.living(ctx); err != nil {
		return err
	}
	if missing := append(p.state.Missing(), p.pods.unresolved()...); len(missing) > 0 {
		p.notReady(missing...)
		return nil
	}
	if !p.ready {
		if err := p.hosts(ctx, network, a); err != nil {
			return err
		}
	}
	if !p.resolved && p.services != nil {
		p.services.resolve(ctx)
	}
	if !p.resolved {
		if err := p.listen(ctx); err != nil {
			return err
		}
	}
	if !p.resolved && p.egress != nil {
		p.egress.resolve(ctx)
		p.firewalls.resolve(ctx)
	}
	if !p.resolved && p.state.PoliciesDecide() {
		if err := p.policies.resolve(ctx); err != nil {
			return err
		}
		if err := p.pods.awaitInherited(ctx); err != nil {
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
	if err := p.letForward(ctx); err != nil {
		return err
	}
	if p.ready {
		if err := p.hosts(ctx, network, a); err != nil {
			return err
		}
	}
	p.askFor(ctx, p.state.Remotes())
	p.notReady()
	return nil
}

// hosts compares the rules of host ports.
func (p *plumbing) hosts(ctx context.Context, network intent.Network, a *audit) error {
	repairs, err := p.hostPorts.ensure(ctx, network)
	a.repairs = append(a.repairs, repairs...)
	return err
}

// letForward tells a switch that waits that its flows are there. On the kernel's
// datapath the next one is to wait too, whoever starts it: what is cached there
// outlives ovs-vswitchd, and one that does not wait throws it away.
func (p *plumbing) letForward(ctx context.Context) error {
	holds := p.datapath == datapathSystem
	// It is noted first: a switch that comes while the last one is let go is another.
	if !p.forwards.Swap(true) || !holds {
		if _, err := p.bridge.LetForward(ctx); err != nil {
			p.forwards.Store(false)
			return err
		}
	}
	if !holds {
		return nil
	}
	_, err := p.bridge.HoldNextStart(ctx)
	return err
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
