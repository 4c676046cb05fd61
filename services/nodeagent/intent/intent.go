// Package intent holds what this node should do, and sees that it is done.
//
// It owns the state that flows are compiled from: the followed objects
// (ClusterNetwork, HostSubnets, isolation mode, NetNamespaces of the
// namespaces that run here, how these leave the cluster, policies) and the local pods. A change of an object
// recompiles only the fragments that depend on it; the difference goes to the
// switch in one bundle. For every object it knows which revision is wanted,
// which is programmed, and why they differ.
//
// It promises that fragments of one owner reach the switch in the order in
// which the state changed, that a namespace that moves to another VNID moves
// with all its pods at once, and with how that VNID leaves the cluster, whatever else
// changes meanwhile, that nothing is removed from the switch
// before the state is known to be complete, that a pod is closed towards the
// world outside until it is known how its namespace leaves (State.FollowEgress), and
// that where policies decide a pod is closed until those that apply to it are in
// force, and no change of a policy is in force by halves, nor a pod open before what
// forbids it something.
//
// It must not touch links, addresses, iptables or OVSDB, and it never waits on
// time, only on revisions.
package intent

import (
	"fmt"
	"net/netip"

	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// Kinds of objects whose progress is tracked, as NodeService names them.
const (
	KindClusterNetwork = "clusternetwork"
	KindHostSubnet     = "hostsubnet"
	KindNetNamespace   = "netnamespace"
	KindIsolation      = "isolation"
	KindPod            = "pod"
)

// IsolationName is the name of the one isolation object.
const IsolationName = "cluster"

// Object names something whose progress is tracked.
type Object struct {
	Kind string
	Name string
}

// Pod is a pod that is attached to this node.
type Pod struct {
	Namespace string
	Name      string
	// Sandbox and Ifname tell attachments of one pod name apart: a StatefulSet's
	// new pod may come before its old one is gone.
	Sandbox string
	Ifname  string
	IP      netip.Addr
	// Port is the pod's OpenFlow port on br0.
	Port uint32
}

// Owner is the name of the pod's fragment.
func (p Pod) Owner() string {
	return fmt.Sprintf("pod %s/%s (%.12s %s)", p.Namespace, p.Name, p.Sandbox, p.Ifname)
}

func (p Pod) object() Object { return Object{KindPod, p.Namespace + "/" + p.Name} }

func hostSubnetOwner(name string) string { return "hostsubnet " + name }

func vnidOwner(vnid uint32) string { return fmt.Sprintf("vnid %d", vnid) }

// baseOwner owns what every node has, whatever runs on it.
const baseOwner = "base"

// Network is what the node's own plumbing (bridge, tun0, iptables) needs to
// know of the state.
type Network struct {
	Node pipeline.Node
	// Tunnel is the encapsulation, "vxlan", "geneve" or "gre".
	Tunnel string
	// MTU of pods in bytes; 0: the underlay's less the tunnel's overhead.
	MTU int
}

// Change says what a change of the state touches.
type Change struct {
	// Owners are the fragments to compile again.
	Owners []string
	// All is set when every fragment depends on what changed.
	All bool
	// Node is set when bridge, tun0 or iptables depend on what changed.
	Node bool
	// Objects are what is in force once the fragments are.
	Objects []Object
	// Policies is set when flows of policies may be different: they go together
	// with the rest, and with whatever else is different in them by then.
	Policies bool
}

// with answers both changes in one.
func (c Change) with(other Change) Change {
	c.Owners = append(c.Owners, other.Owners...)
	c.Objects = append(c.Objects, other.Objects...)
	c.All, c.Node, c.Policies = c.All || other.All, c.Node || other.Node, c.Policies || other.Policies
	return c
}

func (c Change) empty() bool {
	return len(c.Owners) == 0 && !c.All && len(c.Objects) == 0 && !c.Policies
}
