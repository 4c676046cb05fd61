package svcsync

import (
	"fmt"
	"net/netip"
	"slices"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"

	"github.com/damask-sdn/damask/internal/serviceview"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// maxBackends is how many backends a service port can have: what the engine nftables
// can number in one of its two lists. Those beyond are left out, and named as a problem.
const maxBackends = 1 << 15

// outsideSuffix ends the engine's name of a port's outside addresses, when these have
// other backends for the cluster's own clients than the cluster IP has. Kubernetes
// allows no dot in a port's name, so it is nobody else's.
const outsideSuffix = ".outside"

// wish is what one service wants of this node.
type wish struct {
	// entries are for the engine.
	entries []proxy.Service
	// problems are what was left out of the entries, and why.
	problems []string
	// unreadable is why the wish is that of an older state of the service.
	unreadable error
	// idle: nobody answers, and somebody will when a client comes.
	idle bool
	// localReady is for the health-check node port.
	localReady int
}

// translate turns a view of a service into what the engine is to have. idled says that
// the service has the annotation of an idle one. It is pure, if of is.
func translate(v serviceview.View, idled bool, of hosts) wish {
	w := wish{idle: idled && len(v.Ports) > 0, localReady: v.LocalReady}
	for _, p := range v.Ports {
		w.idle = w.idle && !p.Any
	}
	for _, p := range v.Ports {
		for _, entry := range w.port(v, p, of) {
			entry.Held = w.idle
			if err := entry.Check(); err != nil {
				w.problems = append(w.problems, err.Error())
				continue
			}
			w.entries = append(w.entries, entry)
		}
	}
	if len(w.entries) > 0 {
		// The port is the service's, not each of its ports'.
		w.entries[len(w.entries)-1].HealthCheckNodePort = v.HealthCheckNodePort
	}
	return w
}

// port is the engine's view of one port. It is two entries when both policies are Local
// and the port is reached from outside: an entry has one list for clients in the
// cluster, but they get this node's backends by the cluster IP, and all by the others.
func (w *wish) port(v serviceview.View, p serviceview.Port, of hosts) []proxy.Service {
	inside := proxy.Service{
		Key:        proxy.Key{Namespace: v.Namespace, Name: v.Name, PortName: p.Name, Protocol: protocolOf(p.Protocol)},
		ClusterIPs: v.ClusterIPs, Port: p.Port, Affinity: v.Affinity,
		InternalLocal: v.InternalLocal, Elsewhere: p.Any,
		ClusterBackends: w.backends(p.Internal),
	}
	if !v.Outside(p) {
		return []proxy.Service{inside}
	}
	outside := inside
	outside.ExternalLocal, outside.ExternalBackends = v.ExternalLocal, w.backends(p.External)
	outside.NodePort, outside.ExternalIPs, outside.LoadBalancerIPs, outside.SourceRanges = p.NodePort, v.ExternalIPs, v.LoadBalancerIPs, v.SourceRanges
	if v.ExternalLocal {
		outside.OwnBackends = w.itself(p, of)
	}
	if !v.InternalLocal || !v.ExternalLocal {
		return []proxy.Service{outside}
	}
	outside.PortName += outsideSuffix
	outside.ClusterIPs, outside.InternalLocal, outside.ClusterBackends = nil, false, w.backends(p.Anywhere)
	return []proxy.Service{inside, outside}
}

// backends leaves out what cannot be reached from here.
func (w *wish) backends(list []serviceview.Backend) []proxy.Backend {
	var all []proxy.Backend
	for _, b := range list {
		addr := b.Address.Addr()
		if addr.IsLoopback() || addr.IsMulticast() || addr.IsUnspecified() {
			w.problem("endpoint %v is left out: not an address that this node can reach", b.Address)
			continue
		}
		if len(all) == maxBackends {
			w.problem("%d endpoints are left out: a port has at most %d", len(list)-maxBackends, maxBackends)
			break
		}
		all = append(all, proxy.Backend{Addr: addr, Port: b.Address.Port(), Local: b.Local})
	}
	return all
}

// problem notes a problem once, also when several lists have it.
func (w *wish) problem(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(w.problems, text) {
		w.problems = append(w.problems, text)
	}
}

// protocolOf is the engine's name of a protocol; of an unknown one a name that the
// entry's check refuses.
func protocolOf(p servicelbv1.Protocol) proxy.Protocol {
	switch p {
	case servicelbv1.Protocol_PROTOCOL_TCP:
		return proxy.TCP
	case servicelbv1.Protocol_PROTOCOL_UDP:
		return proxy.UDP
	case servicelbv1.Protocol_PROTOCOL_SCTP:
		return proxy.SCTP
	}
	return proxy.Protocol(p.String())
}

// frontendsOf are all places where an entry is reached.
func frontendsOf(e proxy.Service) []Frontend {
	var all []Frontend
	for _, list := range [][]netip.Addr{e.ClusterIPs, e.ExternalIPs, e.LoadBalancerIPs} {
		for _, a := range list {
			if f := (Frontend{a, e.Protocol, e.Port}); !slices.Contains(all, f) {
				all = append(all, f)
			}
		}
	}
	if e.NodePort != 0 {
		all = append(all, Frontend{Protocol: e.Protocol, Port: e.NodePort})
	}
	return all
}
