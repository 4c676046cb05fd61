package nodeagent

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/nodeagent/firewallguard"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// serviceGuard keeps services with endpoints outside of the cluster from leading past
// firewalls and egress IPs: it tells the guard which pods may reach which of these endpoints. What
// a service leads outside leaves by the node's address, since the kernel translates it
// after the switch has seen it; so pods with egress IPs reach none but other nodes, which
// are where the API server is, and no host outside.
type serviceGuard struct {
	state *intent.State
	guard *firewallguard.Guard
	dirty chan struct{} // holds one when sync is to be called

	mu      sync.Mutex
	slices  map[string][]firewallguard.Endpoint // endpoints of each slice
	changes uint64                              // of slices
	known   map[string]allowedEndpoints         // by namespace
}

// movedSuffix ends the name of the firewall of a namespace's pods with egress IPs. No namespace
// has such a name.
const movedSuffix = "_moved"

// allowedEndpoints is what a firewall lets pods reach, as of rules and slices.
type allowedEndpoints struct {
	rules   any
	changes uint64
	list    []firewallguard.Endpoint
}

func newServiceGuard(state *intent.State, guard *firewallguard.Guard) *serviceGuard {
	return &serviceGuard{
		state: state, guard: guard, dirty: make(chan struct{}, 1),
		slices: map[string][]firewallguard.Endpoint{}, known: map[string]allowedEndpoints{},
	}
}

// protocolNumbers are those of the IP header (RFC 5237's registry).
var protocolNumbers = map[servicelbv1.Protocol]uint8{
	servicelbv1.Protocol_PROTOCOL_TCP: 6, servicelbv1.Protocol_PROTOCOL_UDP: 17, servicelbv1.Protocol_PROTOCOL_SCTP: 132,
}

var protocolNames = map[uint8]pipeline.Protocol{6: pipeline.TCP, 17: pipeline.UDP, 132: pipeline.SCTP}

// sliceChanged takes a slice, nil if it is gone.
func (g *serviceGuard) sliceChanged(name string, slice *servicelbv1.EndpointSlice) {
	var endpoints []firewallguard.Endpoint
	for _, e := range slice.GetEndpoints() {
		for _, text := range e.GetAddresses() {
			addr, err := netip.ParseAddr(text)
			if err != nil || !addr.Is4() {
				continue // no engine programs it
			}
			for _, p := range slice.GetPorts() {
				if number := protocolNumbers[p.GetProtocol()]; number != 0 && p.GetPort() <= 65535 {
					endpoints = append(endpoints, firewallguard.Endpoint{Address: netip.AddrPortFrom(addr, uint16(p.GetPort())), Protocol: number})
				}
			}
		}
	}
	g.mu.Lock()
	if len(endpoints) == 0 {
		delete(g.slices, name)
	} else {
		g.slices[name] = endpoints
	}
	g.changes++
	g.mu.Unlock()
	g.wake()
}

func (g *serviceGuard) wake() {
	select {
	case g.dirty <- struct{}{}:
	default:
	}
}

// run keeps the guard at what slices say, until ctx ends. What is new stays closed until
// then.
func (g *serviceGuard) run(ctx context.Context, failed func(error)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.dirty:
		}
		if err := g.sync(ctx); err != nil && ctx.Err() == nil {
			failed(err)
		}
	}
}

// sync tells the guard what may pass now, and answers when it is in force. Whoever
// closes something calls it before the switch is told that it is closed.
func (g *serviceGuard) sync(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	network, known := g.state.Network()
	if !known {
		return nil // the guard is closed, and so are pods
	}
	nodes := map[netip.Addr]bool{}
	for _, node := range g.state.Remotes() {
		nodes[node] = true
	}
	w := firewallguard.Wanted{Judged: map[netip.Addr]string{}, Allowed: map[string][]firewallguard.Endpoint{}}
	for _, j := range g.state.Judged() {
		var allowed []firewallguard.Endpoint
		if j.Number != pipeline.UnknownFirewall {
			allowed = g.allowed(j, network.Node.ClusterNetworks)
		}
		if j.Number == pipeline.NoFirewall {
			w.Free = append(w.Free, j.Pods...)
		} else {
			judge(w, j.Namespace, j.Pods, allowed)
		}
		judge(w, j.Namespace+movedSuffix, j.Moved, slices.DeleteFunc(slices.Clone(allowed), func(e firewallguard.Endpoint) bool { return !nodes[e.Address.Addr()] }))
	}
	return g.guard.Set(ctx, w)
}

// judge gives pods a firewall; nobody's is none.
func judge(w firewallguard.Wanted, firewall string, pods []netip.Addr, allowed []firewallguard.Endpoint) {
	if len(pods) == 0 {
		return
	}
	for _, pod := range pods {
		w.Judged[pod] = firewall
	}
	w.Allowed[firewall] = allowed
}

// allowed answers which endpoints outside a namespace's pods may reach; it asks the rules
// again when these or slices have changed. The caller holds the lock.
func (g *serviceGuard) allowed(j intent.Judged, cluster []netip.Prefix) []firewallguard.Endpoint {
	if known, there := g.known[j.Namespace]; there && known.rules == j.Rules && known.changes == g.changes {
		return known.list
	}
	seen := map[firewallguard.Endpoint]bool{}
	var list []firewallguard.Endpoint
	for _, endpoints := range g.slices {
		for _, e := range endpoints {
			if seen[e] || within(cluster, e.Address.Addr()) {
				continue
			}
			seen[e] = true
			if g.state.MayLeave(j.Namespace, e.Address, protocolNames[e.Protocol]) {
				list = append(list, e)
			}
		}
	}
	g.known[j.Namespace] = allowedEndpoints{j.Rules, g.changes, list}
	return list
}

func within(networks []netip.Prefix, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}
