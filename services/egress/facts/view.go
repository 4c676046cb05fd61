package facts

import (
	"maps"
	"net/netip"
	"slices"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/egress/liveness"
	"github.com/damask-sdn/damask/services/egress/store"
)

// Namespace is all about a namespace.
type Namespace struct {
	// Wish is what it wants, nil for nothing.
	Wish *egressv1.NetNamespaceEgress
	// Netid is its VNID, when HasNetid.
	Netid    uint32
	HasNetid bool
	// Shared says that other namespaces have the same VNID.
	Shared bool
	// Assignments are what was decided before, by selection.
	Assignments map[string]*egressv1.EgressAssignment
	// PodLists are the addresses of pods as stored, by selection.
	PodLists map[string]*egressv1.EgressPods
}

// Namespace answers all about a namespace, pods aside.
func (b *Book) Namespace(name string) Namespace {
	b.mu.Lock()
	defer b.mu.Unlock()
	netid, known := b.netids[name]
	return Namespace{
		Wish: b.wishes[name], Netid: netid, HasNetid: known, Shared: known && len(b.sharing[netid]) > 1,
		Assignments: maps.Clone(b.assignments[name]), PodLists: maps.Clone(b.podLists[name]),
	}
}

// Pods answers a namespace's pods by name.
func (b *Book) Pods(namespace string) map[string]Pod {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.pods[namespace])
}

// Node is all about a node.
type Node struct {
	// HostSubnet is its registration with ipam, nil if it has none.
	HostSubnet *ipamv1.HostSubnet
	// Departed says that it had one, and was released since.
	Departed bool
	// Offer is what it may host, nil for nothing.
	Offer *egressv1.HostSubnetEgress
	// Report is where it is, nil if it never said.
	Report *egressv1.EgressNode
	// Hosting is what was decided before, nil for nothing.
	Hosting *egressv1.EgressHosting
	// Health is what is decided about it.
	Health liveness.Verdict
	// Confirmed is the revision of Hosting that is true there, 0 if not known.
	Confirmed uint64
}

// Alive says whether the node may hold addresses, and can be asked to give them
// up.
func (n Node) Alive() bool { return n.HostSubnet != nil && n.Health.Usable() }

// Node answers all about a node.
func (b *Book) Node(name string) Node {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Node{
		HostSubnet: b.hostSubnets[name], Departed: b.departed[name], Offer: b.offers[name], Report: b.nodes[name], Hosting: b.hostings[name],
		Health: b.health[name], Confirmed: b.confirmed[name],
	}
}

// Reserved answers the cluster's own networks.
func (b *Book) Reserved() []netip.Prefix {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.reserved)
}

// Hostings answers what every node has to hold.
func (b *Book) Hostings() map[string]*egressv1.EgressHosting {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.hostings)
}

// HostSubnets answers every node's registration.
func (b *Book) HostSubnets() map[string]*ipamv1.HostSubnet {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.hostSubnets)
}

// EgressNodes answers what is stored of every node.
func (b *Book) EgressNodes() map[string]*egressv1.EgressNode {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.nodes)
}

// MayHost says whether a node may host addresses, or does.
func (b *Book) MayHost(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.offers[name] != nil || b.hostings[name] != nil
}

// Counts are totals of what is stored and decided.
type Counts struct {
	// Wanted and Hosted are addresses.
	Wanted, Hosted int
	// Down are nodes that do not answer, or not for long enough yet.
	Down int
}

// Counts answers the totals.
func (b *Book) Counts() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	var c Counts
	for _, wish := range b.wishes {
		c.Wanted += len(store.Wanted(wish))
	}
	for _, h := range b.hostings {
		c.Hosted += len(h.GetAddresses())
	}
	for _, v := range b.health {
		if !v.Usable() {
			c.Down++
		}
	}
	return c
}
