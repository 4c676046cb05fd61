// Package facts is all that placement depends on, as this replica knows it.
//
// It owns the copies: wishes and earlier decisions from the service's own
// bucket, HostSubnets and the address plan from ipam, VNIDs and pods from
// tenancy, health and confirmations from the nodes' streams. It promises to say
// which namespaces and nodes changed since it was last asked. It must not decide
// anything.
package facts

import (
	"maps"
	"net/netip"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/egress/liveness"
	"github.com/damask-sdn/damask/services/egress/store"
)

// Book holds the facts. It is safe for concurrent use. Objects that it answers
// are shared and must not be changed.
type Book struct {
	mu sync.Mutex

	wishes      map[string]*egressv1.NetNamespaceEgress
	offers      map[string]*egressv1.HostSubnetEgress
	nodes       map[string]*egressv1.EgressNode
	assignments map[string]map[string]*egressv1.EgressAssignment // by namespace, selection
	podLists    map[string]map[string]*egressv1.EgressPods
	hostings    map[string]*egressv1.EgressHosting
	hostSubnets map[string]*ipamv1.HostSubnet
	departed    map[string]bool // had a subnet once
	reserved    []netip.Prefix
	netids      map[string]uint32
	sharing     map[uint32]map[string]bool // namespaces by VNID
	pods        map[string]map[string]Pod  // by namespace, name
	health      map[string]liveness.Verdict
	confirmed   map[string]uint64

	dirtyNamespaces, dirtyNodes map[string]bool
	reservedChanged             bool
	wished                      bool   // a wish changed
	sequence                    uint64 // of the last change of the bucket that was observed
	wake                        chan struct{}
}

// Pod is what counts of a pod.
type Pod struct {
	// IPs are its IPv4 addresses.
	IPs []string
	// Labels are what selectors look at.
	Labels map[string]string
}

// New returns an empty book.
func New() *Book {
	b := &Book{wake: make(chan struct{}, 1)}
	b.resetStored()
	b.departed = map[string]bool{}
	b.hostSubnets, b.netids, b.sharing = map[string]*ipamv1.HostSubnet{}, map[string]uint32{}, map[uint32]map[string]bool{}
	b.pods, b.health, b.confirmed = map[string]map[string]Pod{}, map[string]liveness.Verdict{}, map[string]uint64{}
	b.dirtyNamespaces, b.dirtyNodes = map[string]bool{}, map[string]bool{}
	return b
}

func (b *Book) resetStored() {
	b.wishes, b.offers, b.nodes = map[string]*egressv1.NetNamespaceEgress{}, map[string]*egressv1.HostSubnetEgress{}, map[string]*egressv1.EgressNode{}
	b.assignments, b.podLists = map[string]map[string]*egressv1.EgressAssignment{}, map[string]map[string]*egressv1.EgressPods{}
	b.hostings = map[string]*egressv1.EgressHosting{}
}

// Wake is signalled when something changed.
func (b *Book) Wake() <-chan struct{} { return b.wake }

func (b *Book) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Observe takes over changes of the service's own bucket.
func (b *Book) Observe(changes []bucket.Change, reset bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if reset {
		b.allDirty()
		b.resetStored()
		b.sequence = 0
	}
	for _, c := range changes {
		b.take(c)
		b.sequence = max(b.sequence, c.Revision)
	}
	b.signal()
}

func (b *Book) allDirty() {
	for name := range b.wishes {
		b.dirtyNamespaces[name] = true
	}
	for name := range b.hostings {
		b.dirtyNodes[name] = true
	}
	for name := range b.nodes {
		b.dirtyNodes[name] = true
	}
}

func (b *Book) take(c bucket.Change) {
	if names, ok := store.NamesOf(c.Key, store.KindNetNamespace); ok {
		put(b.wishes, names[0], read[egressv1.NetNamespaceEgress](c))
		b.dirtyNamespaces[names[0]], b.wished = true, true
	} else if names, ok := store.NamesOf(c.Key, store.KindHostSubnet); ok {
		put(b.offers, names[0], read[egressv1.HostSubnetEgress](c))
		b.dirtyNodes[names[0]], b.wished = true, true
	} else if names, ok := store.NamesOf(c.Key, store.KindNode); ok {
		node := read[egressv1.EgressNode](c)
		if node != nil {
			node.Revision = c.Revision
		}
		put(b.nodes, names[0], node)
		b.dirtyNodes[names[0]] = true
	} else if names, ok := store.NamesOf(c.Key, store.KindAssignment); ok && len(names) == 2 {
		putNested(b.assignments, names, read[egressv1.EgressAssignment](c))
	} else if names, ok := store.NamesOf(c.Key, store.KindPods); ok && len(names) == 2 {
		putNested(b.podLists, names, read[egressv1.EgressPods](c))
	} else if names, ok := store.NamesOf(c.Key, store.KindHosting); ok {
		hosting := read[egressv1.EgressHosting](c)
		if hosting != nil {
			hosting.Revision = c.Revision
			if awaited(hosting) && b.confirmed[names[0]] >= c.Revision {
				b.dirtyNodes[names[0]] = true // the node was faster than this replica's view
			}
		}
		put(b.hostings, names[0], hosting)
	}
}

// awaited says whether a decision waits for a node to say that its hosting is true.
func awaited(h *egressv1.EgressHosting) bool {
	return len(h.GetLeaving()) > 0 || slices.ContainsFunc(h.GetAddresses(), (*egressv1.HostedAddress).GetMatchPods)
}

// message is a pointer to a generated message.
type message[T any] interface {
	*T
	proto.Message
}

// read answers the value of a change, nil when it is deleted. What cannot be
// read counts as deleted: it is written anew when it is ours, and a wish that
// cannot be read cannot be fulfilled.
func read[T any, P message[T]](c bucket.Change) P {
	o := P(new(T))
	if c.Deleted || proto.Unmarshal(c.Value, o) != nil {
		return nil
	}
	return o
}

func put[T any](index map[string]*T, name string, object *T) {
	if object == nil {
		delete(index, name)
		return
	}
	index[name] = object
}

func putNested[T any](index map[string]map[string]*T, names []string, object *T) {
	if index[names[0]] == nil {
		index[names[0]] = map[string]*T{}
	}
	if put(index[names[0]], names[1], object); len(index[names[0]]) == 0 {
		delete(index, names[0])
	}
}

// Changes is what changed since it was asked for before.
type Changes struct {
	// Namespaces of which the wish, the VNID, or a pod that matters changed.
	Namespaces []string
	// Nodes of which anything changed.
	Nodes []string
	// Reserved says that the address plan changed.
	Reserved bool
	// Wished says that somebody wished for something.
	Wished bool
	// Sequence is the bucket's up to which all its changes were answered, now or
	// before.
	Sequence uint64
}

// Take answers what changed, in order, and forgets it.
func (b *Book) Take() Changes {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := Changes{
		Namespaces: slices.Sorted(maps.Keys(b.dirtyNamespaces)), Nodes: slices.Sorted(maps.Keys(b.dirtyNodes)), Reserved: b.reservedChanged,
		Wished: b.wished, Sequence: b.sequence,
	}
	clear(b.dirtyNamespaces)
	clear(b.dirtyNodes)
	b.reservedChanged, b.wished = false, false
	return c
}

// TakeAll answers everything, as if all had changed.
func (b *Book) TakeAll() Changes {
	b.mu.Lock()
	b.allDirty()
	for name := range b.assignments {
		b.dirtyNamespaces[name] = true
	}
	for name := range b.offers {
		b.dirtyNodes[name] = true
	}
	for name := range b.hostSubnets {
		b.dirtyNodes[name] = true
	}
	b.reservedChanged, b.wished = true, true
	b.mu.Unlock()
	return b.Take()
}

// Again names what was taken and could not be dealt with.
func (b *Book) Again(c Changes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range c.Namespaces {
		b.dirtyNamespaces[name] = true
	}
	for _, name := range c.Nodes {
		b.dirtyNodes[name] = true
	}
	b.reservedChanged, b.wished = b.reservedChanged || c.Reserved, b.wished || c.Wished
}
