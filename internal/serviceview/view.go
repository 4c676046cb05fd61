package serviceview

import (
	"net/netip"
	"time"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// Headless is the cluster IP of a service that has none on purpose.
const Headless = "None"

// IdledAt is the annotation of services that were put to sleep, with the time
// as its value. Only that it is there counts.
const IdledAt = "idling.alpha.openshift.io/idled-at"

// Node is from where a service is seen.
type Node struct {
	// Name of the node.
	Name string
	// Zone that it is in; empty if unknown.
	Zone string
}

// Backend is where a connection may go.
type Backend struct {
	// Address and port of the backend: of a pod, of a node, or of something
	// outside the cluster.
	Address netip.AddrPort
	// Node that it runs on; empty if it is on none.
	Node string
	// Local says that it runs on the node that looks.
	Local bool
	// Draining says that it is on its way out, and is here only because nothing
	// better is left.
	Draining bool
}

// Port is one port of a service.
type Port struct {
	// Name is the service port's name; may be empty.
	Name string
	// Protocol is never unspecified.
	Protocol servicelbv1.Protocol
	// Port is the port on cluster IPs, external and load-balancer addresses.
	Port uint16
	// NodePort is the port on every node; 0 for none.
	NodePort uint16
	// Internal are the backends for clients inside the cluster who use the
	// cluster IP.
	Internal []Backend
	// External are the backends for clients outside, by node port, external and
	// load-balancer address. With the policy Local they are this node's own.
	External []Backend
	// Anywhere are the backends without regard to the policy Local: what clients
	// inside the cluster get who use an outside address. Nil when no one may.
	Anywhere []Backend
	// Any says that the service has backends somewhere, so that a packet for
	// which there are none here is dropped, not rejected: another node is the
	// one to answer.
	Any bool
}

// View is what one node needs to know of one service.
type View struct {
	// Namespace and Name of the service.
	Namespace, Name string
	// ClusterIPs, ExternalIPs and LoadBalancerIPs are the addresses by which it
	// is reached.
	ClusterIPs, ExternalIPs, LoadBalancerIPs []netip.Addr
	// SourceRanges are who may come by a load-balancer address; empty: everybody.
	SourceRanges []netip.Prefix
	// Affinity is how long a client stays with its backend; 0: not at all.
	Affinity time.Duration
	// InternalLocal and ExternalLocal say that a policy is Local.
	InternalLocal, ExternalLocal bool
	// HealthCheckNodePort is where the node answers whether it has LocalReady
	// endpoints; 0: nowhere.
	HealthCheckNodePort uint16
	// LocalReady is how many endpoints on this node are ready.
	LocalReady int
	// Idled says that the service was put to sleep and has no backend anywhere:
	// its first connections are to wait until it has one.
	Idled bool
	// Ports are in the service's order. There are none for services that
	// program nothing: headless ones and ExternalName.
	Ports []Port
}

// Outside says whether the port is reached from outside the cluster.
func (v *View) Outside(p Port) bool {
	return p.NodePort != 0 || len(v.ExternalIPs) > 0 || len(v.LoadBalancerIPs) > 0
}

// Programs says whether a service programs anything at all on nodes.
func Programs(s *servicelbv1.Service) bool {
	if s.GetType() == servicelbv1.ServiceType_SERVICE_TYPE_EXTERNAL_NAME {
		return false
	}
	ips := s.GetClusterIps()
	return len(ips) > 0 && ips[0] != Headless
}
