package nodeagent

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/damask-sdn/damask/internal/serviceview"
	"github.com/damask-sdn/damask/services/nodeagent/healthport"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/iptables"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/nftables"
	"github.com/damask-sdn/damask/services/nodeagent/svcsync"
)

// newServices makes the node's part for Services; nil when it has none.
func (a *agent) newServices(cfg Config, state *intent.State) *svcsync.Syncer {
	if len(cfg.ServiceLB.Servers) == 0 {
		a.log.Info("no services are programmed on this node: the configuration names no servicelb server")
		return nil
	}
	health := healthport.New(a.log)
	a.onClose(health.Close)
	return svcsync.New(svcsync.Config{
		Node:    serviceview.Node{Name: cfg.Node, Zone: cfg.Services.Zone},
		Engines: engines(cfg.Services.Engine),
		View:    func() (proxy.Node, bool) { return engineView(cfg, state) },
		Flows:   &serviceFlows{state: state, program: a.prog.Program, unsent: map[string]bool{}},
		Audit:   cfg.AuditInterval,
		Health:  healthPorts{health},
		Log:     a.log.Named("services"),
	})
}

// engines answers the chosen engine, and those that may have left rules.
func engines(chosen string) svcsync.Engines {
	makers := map[string]svcsync.Maker{
		engineIPTables: func(n proxy.Node) (proxy.Engine, error) { return iptables.New(n, iptables.DefaultProgram) },
		engineNFTables: func(n proxy.Node) (proxy.Engine, error) { return nftables.New(n) },
	}
	e := svcsync.Engines{Name: chosen, Chosen: makers[chosen], Others: makers}
	delete(e.Others, chosen)
	return e
}

// engineView is what an engine must know of the node; false until the address plan is
// known.
func engineView(cfg Config, state *intent.State) (proxy.Node, bool) {
	network, known := state.Network()
	return proxy.Node{
		ClusterNetworks: network.Node.ClusterNetworks, MasqueradeBit: uint8(cfg.MasqueradeBit),
		NodePortNetworks: cfg.Services.NodePortNetworks,
	}, known
}

// serviceFlows puts services into the state, and their flows into the switch. The
// loop of svcsync alone calls it.
type serviceFlows struct {
	state   *intent.State
	program func(context.Context, intent.Change) error
	// unsent are the owners of flows that the switch did not take. The state has them
	// already, so that it alone would not know that something is to be sent.
	unsent map[string]bool
}

// Open is svcsync's call.
func (f *serviceFlows) Open(ctx context.Context, opened []svcsync.Opening, gone []serviceview.Name) error {
	for _, o := range opened {
		service := intent.Service{Namespace: o.Service.Namespace, Name: o.Service.Service, ClusterIPs: o.ClusterIPs}
		for _, p := range o.Ports {
			service.Ports = append(service.Ports, pipeline.ServicePort{Protocol: pipeline.Protocol(p.Protocol), Port: p.Port})
		}
		f.note(f.state.SetService(service))
	}
	for _, name := range gone {
		f.note(f.state.DeleteService(name.Namespace, name.Service))
	}
	if len(f.state.Missing()) > 0 {
		return svcsync.ErrSwitchAway // whether there are flows for services is not known
	}
	if len(f.unsent) == 0 {
		return nil
	}
	err := f.program(ctx, intent.Change{Owners: slices.Sorted(maps.Keys(f.unsent))})
	switch {
	case errors.Is(err, intent.ErrNotStarted):
		return svcsync.ErrSwitchAway
	case err == nil:
		clear(f.unsent)
	}
	return err
}

func (f *serviceFlows) note(c intent.Change) {
	for _, owner := range c.Owners {
		f.unsent[owner] = true
	}
}

// healthPorts answers load balancers for svcsync.
type healthPorts struct{ ports *healthport.Ports }

// Serve is svcsync's call.
func (h healthPorts) Serve(ports map[uint16]svcsync.Health) map[serviceview.Name]error {
	want := make(map[uint16]healthport.Health, len(ports))
	for number, p := range ports {
		want[number] = healthport.Health{Namespace: p.Service.Namespace, Name: p.Service.Service, Local: p.LocalReady}
	}
	failed := map[serviceview.Name]error{}
	for _, err := range portErrors(h.ports.Set(want)) {
		failed[serviceview.Name{Namespace: err.Namespace, Service: err.Name}] = err
	}
	return failed
}

// Healthy is svcsync's call.
func (h healthPorts) Healthy(healthy bool) { h.ports.SetProxyHealthy(healthy) }

// portErrors takes a joined error apart.
func portErrors(err error) (all []*healthport.PortError) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, each := range joined.Unwrap() {
			if one, ok := errors.AsType[*healthport.PortError](each); ok {
				all = append(all, one)
			}
		}
	}
	return all
}
