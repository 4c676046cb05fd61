package svcsync

import (
	"context"
	"net/netip"

	"github.com/damask-sdn/damask/internal/serviceview"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// Health is what a load balancer learns at a service's health-check node port.
type Health struct {
	// Service is whose port it is.
	Service serviceview.Name
	// LocalReady is how many ready endpoints the service has on this node.
	LocalReady int
}

// healthPorts answers load balancers (package healthport).
type healthPorts interface {
	// Serve has exactly these TCP ports of the node answered, each as the map says, and
	// answers the services whose port cannot be opened. These are tried again. The map
	// is the callee's from then on.
	Serve(ports map[uint16]Health) map[serviceview.Name]error
	// Healthy says whether the engine takes what it is told. While it does not, load
	// balancers should send elsewhere.
	Healthy(bool)
}

// Frontend is where a service is reached: an address, or all of the node's.
type Frontend struct {
	// Address is a cluster IP, an external or a load-balancer address. The zero Addr
	// stands for a node port: all of the node's own addresses.
	Address netip.Addr
	// Protocol is that of the port.
	Protocol proxy.Protocol
	// Port is 1 to 65535.
	Port uint16
}

// holder keeps the first packets to idle services waiting (package idle).
//
// An idle service has the annotation IdledAt and no backend, on any node. It is held
// from before its last backend is taken out of the engine, until after its first one
// is in force, or until it is idle no more for another reason. Whatever gets past the
// holder the engine drops without an answer, so that a client tries again.
//
// A call that fails is repeated, sooner or later.
type holder interface {
	// Hold has packets to the frontends held, instead of those that were held for this
	// service before, and answers when no packet gets past any more.
	Hold(ctx context.Context, service serviceview.Name, frontends []Frontend) error
	// Release lets go what is held for a service: its backends are in force now. It
	// does nothing for a service that is not held.
	Release(ctx context.Context, service serviceview.Name) error
	// Sync makes what is held exactly this. It is called at start, after an error and in
	// audits, and repairs what somebody else has changed.
	Sync(ctx context.Context, held map[serviceview.Name][]Frontend) error
}

// IdledAt is the annotation by which a service is idle, with the time since when. It is
// OpenShift's, whose tools idle and wake services.
const IdledAt = "idling.alpha.openshift.io/idled-at"
