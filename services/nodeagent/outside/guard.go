package outside

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/firewallguard"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// Guard keeps services with endpoints outside of the cluster from leading past
// firewalls and egress IPs: it tells the guard which pods may reach which of these endpoints, and
// which node ports of other nodes, which lead there in their turn. What
// a service leads outside leaves by the node's address, since the kernel translates it
// after the switch has seen it; so pods with egress IPs reach none but other nodes, which
// are where the API server is, and no host outside.
type Guard struct {
	state *intent.State
	guard *firewallguard.Guard
	dirty chan struct{} // holds one when Sync is to be called

	mu       sync.Mutex
	slices   map[string]ledTo                    // those with endpoints that are no pods', by name
	services map[string][]firewallguard.NodePort // that have some, by name
	changes  uint64                              // of slices, services and nodes
	nodes    []netip.Addr                        // the others, sorted
	known    map[string]allowedEndpoints         // by namespace
	outside  map[string][]firewallguard.Endpoint // services with node ports that lead outside; nil: not known
}

// ledTo is the endpoints of a slice, and whose they are.
type ledTo struct {
	service   string
	endpoints []firewallguard.Endpoint
}

// movedSuffix ends the name of the firewall of a namespace's pods with egress IPs. No namespace
// has such a name.
const movedSuffix = "_moved"

// allowedEndpoints is what a firewall lets pods reach, as of rules and changes.
type allowedEndpoints struct {
	rules                any
	changes              uint64
	endpoints, nodePorts []firewallguard.Endpoint
}

// NewGuard makes one that works on the kernel through guard.
func NewGuard(state *intent.State, guard *firewallguard.Guard) *Guard {
	return &Guard{
		state: state, guard: guard, dirty: make(chan struct{}, 1),
		slices: map[string]ledTo{}, services: map[string][]firewallguard.NodePort{}, known: map[string]allowedEndpoints{},
	}
}

// protocolNumbers are those of the IP header (RFC 5237's registry).
var protocolNumbers = map[servicelbv1.Protocol]uint8{
	servicelbv1.Protocol_PROTOCOL_TCP: 6, servicelbv1.Protocol_PROTOCOL_UDP: 17, servicelbv1.Protocol_PROTOCOL_SCTP: 132,
}

var protocolNames = map[uint8]pipeline.Protocol{6: pipeline.TCP, 17: pipeline.UDP, 132: pipeline.SCTP}

// SliceChanged takes a slice, nil if it is gone. Of pods it keeps nothing, and a slice of pods
// alone, as nearly all are, changes nothing.
func (g *Guard) SliceChanged(name string, slice *servicelbv1.EndpointSlice) {
	network, known := g.state.Network()
	var endpoints []firewallguard.Endpoint
	for _, e := range slice.GetEndpoints() {
		for _, text := range e.GetAddresses() {
			addr, err := netip.ParseAddr(text)
			if err != nil || !addr.Is4() || known && within(network.Node.ClusterNetworks, addr) {
				continue // no engine programs it, or it is a pod's
			}
			for _, p := range slice.GetPorts() {
				if number := protocolNumbers[p.GetProtocol()]; number != 0 && p.GetPort() <= 65535 {
					endpoints = append(endpoints, firewallguard.Endpoint{Address: netip.AddrPortFrom(addr, uint16(p.GetPort())), Protocol: number})
				}
			}
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, had := g.slices[name]; !had && len(endpoints) == 0 {
		return
	}
	if len(endpoints) == 0 {
		delete(g.slices, name)
	} else {
		g.slices[name] = ledTo{slice.GetNamespace() + "/" + slice.GetServiceName(), endpoints}
	}
	g.anew()
	g.Wake()
}

// ServiceChanged takes a service, nil if it is gone.
func (g *Guard) ServiceChanged(name string, service *servicelbv1.Service) {
	var ports []firewallguard.NodePort
	for _, p := range service.GetPorts() {
		if number := protocolNumbers[p.GetProtocol()]; number != 0 && p.GetNodePort() != 0 && p.GetNodePort() <= 65535 {
			ports = append(ports, firewallguard.NodePort{Protocol: number, Port: uint16(p.GetNodePort())})
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if slices.Equal(g.services[name], ports) {
		return
	}
	if len(ports) == 0 {
		delete(g.services, name)
	} else {
		g.services[name] = ports
	}
	g.anew()
	g.Wake()
}

// anew forgets what follows from slices, services and nodes. The caller holds the lock.
func (g *Guard) anew() {
	g.changes++
	g.outside = nil
}

// Wake asks for a Sync, as soon as Run comes to it.
func (g *Guard) Wake() {
	select {
	case g.dirty <- struct{}{}:
	default:
	}
}

// Run keeps the guard at what slices say, until ctx ends. What is new stays closed until
// then.
func (g *Guard) Run(ctx context.Context, failed func(error)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.dirty:
		}
		if err := g.Sync(ctx); err != nil && ctx.Err() == nil {
			failed(err)
		}
	}
}

// Ensure compares the kernel with what it should have for this node's pods, repairs it, and
// answers what was wrong.
func (g *Guard) Ensure(ctx context.Context, node pipeline.Node) ([]string, error) {
	return g.guard.Ensure(ctx, firewallguard.Config{Pods: node.Subnet, Gateway: bridge.GatewayPort})
}

// Sync tells the guard what may pass now, and answers when it is in force. Whoever
// closes something calls it before the switch is told that it is closed.
func (g *Guard) Sync(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	network, known := g.state.Network()
	if !known {
		return nil // the guard is closed, and so are pods
	}
	if nodes := slices.SortedFunc(slices.Values(g.state.Remotes()), netip.Addr.Compare); !slices.Equal(nodes, g.nodes) {
		g.nodes = nodes
		g.anew()
	}
	g.find(network.Node)
	w := firewallguard.Wanted{Nodes: g.nodes, Judged: map[netip.Addr]string{}, Allowed: map[string][]firewallguard.Endpoint{}}
	for service := range g.outside {
		w.NodePorts = append(w.NodePorts, g.services[service]...)
	}
	for _, j := range g.state.Judged() {
		var allowed, ports []firewallguard.Endpoint
		if j.Number != pipeline.UnknownFirewall {
			allowed, ports = g.allowed(j)
		}
		if j.Number == pipeline.NoFirewall {
			w.Free = append(w.Free, j.Pods...)
		} else {
			judge(w, j.Namespace, j.Pods, slices.Concat(allowed, ports))
		}
		judge(w, j.Namespace+movedSuffix, j.Moved, slices.DeleteFunc(slices.Clone(allowed), func(e firewallguard.Endpoint) bool { return !g.isNode(e.Address.Addr()) }))
	}
	return g.guard.Set(ctx, w)
}

// isNode says whether an address is another node's. The caller holds the lock.
func (g *Guard) isNode(addr netip.Addr) bool {
	_, is := slices.BinarySearchFunc(g.nodes, addr, netip.Addr.Compare)
	return is
}

// find finds the services with node ports that lead to hosts which are neither pods nor nodes,
// and where. Endpoints that came before the network was known, and are pods', it forgets. The
// caller holds the lock.
func (g *Guard) find(node pipeline.Node) {
	if g.outside != nil {
		return
	}
	g.outside = map[string][]firewallguard.Endpoint{}
	for name, slice := range g.slices {
		slice.endpoints = slices.DeleteFunc(slice.endpoints, func(e firewallguard.Endpoint) bool { return within(node.ClusterNetworks, e.Address.Addr()) })
		if g.slices[name] = slice; len(slice.endpoints) == 0 {
			delete(g.slices, name)
		}
		if g.services[slice.service] == nil {
			continue
		}
		for _, e := range slice.endpoints {
			if addr := e.Address.Addr(); addr != node.HostIP && !g.isNode(addr) {
				g.outside[slice.service] = append(g.outside[slice.service], e)
			}
		}
	}
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

// allowed answers which endpoints outside a namespace's pods may reach, and which node ports
// of other nodes that lead outside: those that lead nowhere else. It asks the rules again when
// these have changed, or what services lead to. The caller holds the lock.
func (g *Guard) allowed(j intent.Judged) (endpoints, nodePorts []firewallguard.Endpoint) {
	if known, there := g.known[j.Namespace]; there && known.rules == j.Rules && known.changes == g.changes {
		return known.endpoints, known.nodePorts
	}
	may := func(e firewallguard.Endpoint) bool {
		return g.state.MayLeave(j.Namespace, e.Address, protocolNames[e.Protocol])
	}
	seen := map[firewallguard.Endpoint]bool{}
	for _, slice := range g.slices {
		for _, e := range slice.endpoints {
			if seen[e] {
				continue
			}
			seen[e] = true
			if may(e) {
				endpoints = append(endpoints, e)
			}
		}
	}
	for service, outside := range g.outside {
		if slices.ContainsFunc(outside, func(e firewallguard.Endpoint) bool { return !may(e) }) {
			continue
		}
		for _, port := range g.services[service] {
			for _, node := range g.nodes {
				nodePorts = append(nodePorts, firewallguard.Endpoint{Address: netip.AddrPortFrom(node, port.Port), Protocol: port.Protocol})
			}
		}
	}
	g.known[j.Namespace] = allowedEndpoints{j.Rules, g.changes, endpoints, nodePorts}
	return endpoints, nodePorts
}

func within(networks []netip.Prefix, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}
