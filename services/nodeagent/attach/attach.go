// Package attach makes and unmakes the attachments of pods to this node: it is
// the CNI server, and the place where leases, links, ports and flows meet.
//
// It promises: a pod is closed until its flows are in the switch, and ADD answers
// when it can talk; pods never wait for one another, only commands on one
// container do; whatever ADD could not finish is undone, and what could not be
// undone is found again, because the lease is written first and released last;
// DEL needs no control service.
//
// It must not know how links, ports or flows are made, nor keep state of its own:
// what is true is in the lease store, in the switch and in the kernel.
package attach

import (
	"context"
	"net/netip"

	"github.com/hashicorp/go-hclog"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
	"github.com/damask-sdn/damask/services/nodeagent/link"
)

// Network is what a new pod of this node must know.
type Network struct {
	// Subnet is the node's; its first address is the gateway, tun0's.
	Subnet netip.Prefix
	// ClusterNetworks are on-link for a pod.
	ClusterNetworks []netip.Prefix
	// ServiceNetworks are behind the gateway, also for a pod that leaves elsewhere.
	ServiceNetworks []netip.Prefix
	// Underlay is the name of the interface with the node's address.
	Underlay string
	// MTU of the pod's interface, in bytes.
	MTU int
}

// site is this node, as far as pods are concerned.
type site interface {
	// Network answers what new pods get. missing says, in an operator's words,
	// what is not there yet for pods to be added; empty means ready.
	Network() (n Network, missing []string)
}

// ports is the bridge, through OVSDB.
type ports interface {
	// AddPort answers the port number when the switch has confirmed it.
	AddPort(ctx context.Context, p bridge.Port) (ofport uint32, err error)
	// DeletePort succeeds for a port that is not there.
	DeletePort(ctx context.Context, name string) error
	// Ports are all ports of the bridge.
	Ports(ctx context.Context) ([]bridge.Port, error)
}

// links are the pods' cables.
type links interface {
	// EnsurePod makes a cable with all that is inside the pod, or repairs it.
	EnsurePod(ctx context.Context, p link.Pod) (link.PodLink, error)
	// EnsurePodWhile is EnsurePod, and runs something else as soon as the node's
	// end of the cable exists.
	EnsurePodWhile(ctx context.Context, p link.Pod, meanwhile func() error) (link.PodLink, error)
	// EnsureBandwidth makes a cable that is there as fast as it is to be, and answers
	// what differed.
	EnsureBandwidth(ctx context.Context, p link.Pod) ([]string, error)
	// CheckPod tells every difference, each in a phrase.
	CheckPod(ctx context.Context, p link.Pod) ([]string, error)
	// DeletePod succeeds for a cable that is not there.
	DeletePod(ctx context.Context, hostVeth string) error
	// EnsureRouter makes the second interface of an egress router, or repairs it.
	EnsureRouter(ctx context.Context, r link.Router) ([]string, error)
	// CheckRouter tells every difference, each in a phrase.
	CheckRouter(ctx context.Context, r link.Router) ([]string, error)
	// DeleteRouter succeeds for an interface, and a namespace, that is not there.
	DeleteRouter(ctx context.Context, netns, name string) error
}

// programmer puts the flows of pods into the switch.
type programmer interface {
	// Program answers when the pod's flows are in the switch. Idempotent.
	Program(ctx context.Context, a *cniv1.Attachment) error
	// Unprogram answers when the switch has no flow of the pod. Idempotent; it
	// needs no control service.
	Unprogram(ctx context.Context, a *cniv1.Attachment) error
	// Differences tells, for CHECK, how the pod's flows in the switch differ from
	// what they should be, each in a phrase.
	Differences(ctx context.Context, a *cniv1.Attachment) ([]string, error)
}

// hostPorts leads ports of the node to pods. Only attachments that have host ports
// come here.
type hostPorts interface {
	// Open makes the attachment's host ports lead to it, and no others. Idempotent.
	Open(ctx context.Context, a *cniv1.Attachment) error
	// Close makes no host port lead to the attachment. Idempotent; it needs no
	// control service.
	Close(ctx context.Context, a *cniv1.Attachment) error
	// Differences tells, for CHECK, how the rules of the attachment's host ports
	// differ from what they should be, each in a phrase.
	Differences(ctx context.Context, a *cniv1.Attachment) ([]string, error)
}

// names knows the tenants.
type names interface {
	// VNID answers the VNID of a namespace. It may ask and wait for a namespace
	// that was never seen here; the error's reason is UNKNOWN_NAMESPACE when there
	// is none. It must not wait for namespaces that pods run in already.
	VNID(ctx context.Context, namespace string) (uint32, error)
	// EgressRouterSources are the networks of which pods of a namespace whose VNID is
	// known may have addresses as egress routers; none: it may have none.
	EgressRouterSources(namespace string) []netip.Prefix
}

// registry tells the cluster about pods. It must not wait: a report that does
// not arrive is repeated by who implements it.
type registry interface {
	// PodUp is told when an attachment is complete, and again when it was repaired.
	PodUp(a *cniv1.Attachment)
	// PodDown is told when nothing of an attachment is left.
	PodDown(a *cniv1.Attachment)
}

// Parts are what the server works with. All but the last are required.
type Parts struct {
	Leases     *lease.Store
	Site       site
	Ports      ports
	Links      links
	Programmer programmer
	HostPorts  hostPorts
	Names      names
	Registry   registry
	// Predecessor knows the pods of a node that is taken over; nil: nobody does.
	Predecessor predecessor
}

// Server is the CNI server.
type Server struct {
	Parts
	log       hclog.Logger
	locks     keyLocks
	inherited []*cniv1.Attachment // by Restore
}

var _ cniv1.CNIServiceService = (*Server)(nil)

// New makes a server. Restore must come before the first command.
func New(parts Parts, log hclog.Logger) *Server {
	return &Server{Parts: parts, log: log}
}
