// Package proxy says what the service engines of a node must program: a view of the
// cluster's services, seen from one node. Each engine is a package below this one.
//
// The view is finished: whoever makes it (services/servicelb) has already chosen, for
// this node, the backends of every service port, by readiness, traffic policies,
// topology hints and the fallback to terminating endpoints. An engine decides nothing
// of that. It turns addresses of services into addresses of backends.
//
// The package is pure: it holds values and their checks. It must not know any engine,
// nor touch the network. What every engine promises is written at package proxytest,
// whose contract test each engine passes with real packets.
package proxy

import (
	"cmp"
	"context"
	"net/netip"
	"time"
)

// Protocol is a transport protocol, as Kubernetes spells it.
type Protocol string

// The protocols that services can have.
const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

// Key names one port of one service. It never changes in the life of the port.
type Key struct {
	// Namespace and Name are the service's.
	Namespace, Name string
	// PortName is the port's name in the service. Empty when the service has one port.
	PortName string
	// Protocol is the port's.
	Protocol Protocol
}

// String prints a key as kube-proxy does in its rules' comments: "shop/web:http", and
// "shop/web" for a port without a name.
func (k Key) String() string {
	if k.PortName == "" {
		return k.Namespace + "/" + k.Name
	}
	return k.Namespace + "/" + k.Name + ":" + k.PortName
}

// Compare orders keys by namespace, name, port name, protocol.
func (k Key) Compare(other Key) int {
	return cmp.Or(cmp.Compare(k.Namespace, other.Namespace), cmp.Compare(k.Name, other.Name),
		cmp.Compare(k.PortName, other.PortName), cmp.Compare(k.Protocol, other.Protocol))
}

// Service is one port of one service as this node must program it. (It has more than
// twelve fields because it is one object of Kubernetes, flattened.)
//
// Two address families may be mixed in its lists. An engine programs its own family
// and passes over addresses of the other. The engines that exist program IPv4.
//
// No two services of a State may claim the same address, protocol and port, nor the
// same node port and protocol; Check says so when they do.
type Service struct {
	Key
	// ClusterIPs are the service's addresses inside the cluster. May be empty.
	ClusterIPs []netip.Addr
	// Port is where it listens on ClusterIPs, ExternalIPs and LoadBalancerIPs, 1–65535.
	Port uint16
	// NodePort is where it listens on the node's own addresses. 0: nowhere.
	NodePort uint16
	// ExternalIPs are addresses that others lead to this node. A service answers on
	// them as on a node port.
	ExternalIPs []netip.Addr
	// LoadBalancerIPs are the addresses of a load balancer that leads to this node.
	LoadBalancerIPs []netip.Addr
	// SourceRanges are the clients that may use LoadBalancerIPs. Others' packets to
	// LoadBalancerIPs are dropped. Empty: everybody. They do not concern other addresses.
	SourceRanges []netip.Prefix
	// Affinity is how long after its last connection a client (by source address, as
	// it arrives at the node) still gets the same backend. 0: no affinity. Whole
	// seconds, up to 86,400.
	Affinity time.Duration
	// InternalLocal is internalTrafficPolicy Local: ClusterBackends has only backends
	// of this node. It decides only what happens when there is none; see Verdict.
	InternalLocal bool
	// ExternalLocal is externalTrafficPolicy Local: ExternalBackends has only backends
	// of this node, and the client's address is kept on external addresses. Without it
	// what comes to an external address is masqueraded.
	ExternalLocal bool
	// ClusterBackends get what is sent to ClusterIPs. With ExternalLocal they also get
	// what pods of the cluster send to external addresses, and see OwnBackends.
	ClusterBackends []Backend
	// OwnBackends get, with ExternalLocal and in place of ClusterBackends, what this node
	// itself sends to external addresses: rather than pods of other nodes the node ports
	// of these nodes, behind which pods see this node's address. One that is listed
	// several times gets so many shares. Empty: it is for ClusterBackends.
	OwnBackends []Backend
	// ExternalBackends get what is sent to NodePort, ExternalIPs and LoadBalancerIPs.
	ExternalBackends []Backend
	// Elsewhere says that there are backends that the policy Local keeps from this node.
	// Like InternalLocal it decides only what happens when there is none left.
	Elsewhere bool
	// Held says that somebody else holds what comes to the service until it has a
	// backend. What gets past while it has none is dropped, so that the client tries
	// again; refused, it would give up.
	Held bool
	// HealthCheckNodePort is where the node answers a load balancer's question for
	// local backends. The engine only lets such packets in. 0: none.
	HealthCheckNodePort uint16
}

// Backend is where connections of a service go.
type Backend struct {
	// Addr is the pod's, the node's (host network) or any other address.
	Addr netip.Addr
	// Port is the backend's, 1–65535.
	Port uint16
	// Local says that the backend is on this node.
	Local bool
}

// Verdict is what happens to a packet to a service address.
type Verdict int

// The verdicts.
const (
	// Forward: the packet goes to one of the backends.
	Forward Verdict = iota
	// Reject: there is no backend, and the client is told at once (ICMP port unreachable).
	Reject
	// Drop: this node has no backend, but others have, or it is to come soon. Silence,
	// so that a client or load balancer tries again, perhaps through another node.
	Drop
)

// ClusterVerdict is the verdict for what comes to the cluster IPs.
func (s Service) ClusterVerdict() Verdict {
	return s.verdict(s.ClusterBackends, s.InternalLocal, s.ExternalBackends)
}

// ExternalVerdict is the verdict for what comes to external addresses, other than
// (with ExternalLocal) from pods and from the node itself: that has ClusterVerdict.
func (s Service) ExternalVerdict() Verdict {
	return s.verdict(s.ExternalBackends, s.ExternalLocal, s.ClusterBackends)
}

func (s Service) verdict(own []Backend, local bool, other []Backend) Verdict {
	switch {
	case len(own) > 0:
		return Forward
	case s.Held, local && (s.Elsewhere || len(other) > 0):
		return Drop
	}
	return Reject
}

// State is all that a node must program.
type State map[Key]Service

// Change is the new wish for one service port.
type Change struct {
	// Key names the service port.
	Key Key
	// Service is how it shall be; its Key is the same. Nil: it shall not be.
	Service *Service
}

// Changes counts what a Sync sent to the kernel, in the engine's own units (rules for
// iptables, rules and elements for nftables). Zero: nothing differed, nothing was sent.
type Changes struct {
	// Added is how many were put in, Removed how many were taken out.
	Added, Removed int
}

// None says that nothing was sent.
func (c Changes) None() bool { return c == Changes{} }

// Engine is what the contract test asks of an engine. Callers declare what they use of
// it themselves; it is here for the engines' tests to share.
//
// Methods may be called from any goroutine; an engine does one at a time. They act in
// the network namespace of the calling thread.
type Engine interface {
	// Sync makes the kernel's rules what the state says. It reads what is there and
	// sends the difference only, so a restarted agent sends nothing when nothing
	// changed, and cuts no connection. Rules that look like this engine's and are not
	// in the state are leftovers and go. Others' rules stay, whatever they are.
	Sync(ctx context.Context, state State) (Changes, error)
	// Apply changes only the services named, with a cost that follows the change. All
	// changes of a call take effect together, as far as the kernel offers it. A change
	// to what is there already sends nothing. It needs a Sync before. After an error
	// what the kernel has is not known: the caller calls Sync.
	Apply(ctx context.Context, changes ...Change) error
	// Cleanup takes out all that the engine ever put in, and leaves the ruleset as it
	// was before the first Sync. It needs no Sync before.
	Cleanup(ctx context.Context) error
}
