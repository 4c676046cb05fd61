package nodeagent

import (
	"context"
	"net/netip"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/serviceview"
	"github.com/damask-sdn/damask/services/nodeagent/ancestor"
	"github.com/damask-sdn/damask/services/nodeagent/healthport"
	"github.com/damask-sdn/damask/services/nodeagent/idle"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/needpods"
	"github.com/damask-sdn/damask/services/nodeagent/outside"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/iptables"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/nftables"
	"github.com/damask-sdn/damask/services/nodeagent/svcsync"
)

// services is the agent's part for Services.
type services struct {
	*svcsync.Syncer
	state      *intent.State
	namespaces namespaceFinder
	interest   *interest
	proxied    proxied
	gate       gate
	needs      *needpods.Reporter
	slices     *outside.Slices // nil: no firewall withholds endpoints
}

// newServices makes the part for Services; nil when they are somebody else's.
func (a *agent) newServices(ctx context.Context, cfg Config, state *intent.State, servicelb *grpc.ClientConn, before ancestor.Node, where *zone) (*services, error) {
	if len(cfg.ServiceLB.Servers) == 0 {
		a.log.Info("no services are programmed on this node: the configuration names no servicelb server")
		return nil, nil //nolint:nilnil // there is no such part
	}
	health := healthport.New(a.log)
	a.onClose(health.Close)
	needs := needpods.New(servicelb, cfg.Node, a.log)
	held, err := idle.New(idle.Config{Need: needs.Need, NodePortNetworks: cfg.Services.NodePortNetworks}, a.log)
	if err != nil {
		return nil, err
	}
	a.onClose(held.Close)
	s := &services{state: state, proxied: proxied{ancestor: before}, gate: gate{held}, needs: needs}
	s.Syncer = svcsync.New(svcsync.Config{
		Node:    serviceview.Node{Name: cfg.Node, Zone: where.get()},
		Engines: engines(cfg.Services.Engine, state, a.prog.Queue),
		View:    func() (proxy.Node, bool) { return s.view(ctx, cfg) },
		Hosts:   func(node string) (netip.Addr, bool) { return hostOf(cfg, state, node) },
		Flows:   &serviceFlows{state: state, program: a.prog.Program, unsent: map[string]bool{}},
		Audit:   cfg.AuditInterval,
		Health:  healthPorts{health},
		Idle:    gate{held},
		Log:     a.log.Named("services"),
	})
	where.changed = append(where.changed, s.Zone)
	return s, nil
}

// collectors are the metrics of the part.
func (s *services) collectors() []prometheus.Collector {
	return append(s.gate.metrics(), s.Metrics())
}

// engines answers the chosen engine, and those that may have left rules.
func engines(chosen string, state *intent.State, queue func(intent.Change)) svcsync.Engines {
	makers := map[string]svcsync.Maker{
		engineIPTables: func(n proxy.Node) (proxy.Engine, error) { return iptables.New(n, iptables.DefaultProgram) },
		engineNFTables: func(n proxy.Node) (proxy.Engine, error) { return nftables.New(n) },
	}
	e := svcsync.Engines{Name: chosen, Chosen: telling(makers[chosen], state, queue), Others: makers}
	delete(e.Others, chosen)
	return e
}

// hostOf answers the address of another node, if its node ports are there: where they
// are is in each node's configuration, and taken to be the same in all.
func hostOf(cfg Config, state *intent.State, node string) (netip.Addr, bool) {
	host, known := state.HostOf(node)
	limits := cfg.Services.NodePortNetworks
	if len(limits) > 0 && !slices.ContainsFunc(limits, func(p netip.Prefix) bool { return p.Contains(host) }) {
		return netip.Addr{}, false
	}
	return host, known
}

// view is what an engine must know of the node; false until the address plan is
// known, and what leads outside, and nobody else programs services.
func (s *services) view(ctx context.Context, cfg Config) (proxy.Node, bool) {
	network, known := s.state.Network()
	known = known && !s.proxied.byOther(ctx)
	if known && s.slices != nil {
		known = s.slices.Settled()
	}
	return proxy.Node{
		ClusterNetworks: network.Node.ClusterNetworks, Pods: network.Node.Subnet, MasqueradeBit: uint8(cfg.MasqueradeBit),
		NodePortNetworks: cfg.Services.NodePortNetworks,
	}, known
}
