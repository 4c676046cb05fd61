package assign

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/facts"
	"github.com/damask-sdn/damask/services/egress/placement"
	"github.com/damask-sdn/damask/services/egress/spec"
)

// write is a decision to store.
type write struct {
	key    string
	object proto.Message // nil: the key goes
	stage  func(tx *bucket.Tx)
}

// hosting is what a node has to hold, as decided last.
type hosting struct {
	addresses map[netip.Addr]*egressv1.HostedAddress
	leaving   map[netip.Addr]bool
	// inForce is what the node said of its addresses that it is in force.
	inForce map[netip.Addr]*egressv1.HostedAddress
}

// desk is where decisions are made. It is for one goroutine.
type desk struct {
	book    *facts.Book
	now     func() time.Time
	planner *placement.Planner

	known    map[string]map[string]bool     // selections that the planner knows, by namespace
	hostings map[string]*hosting            // by node
	holders  map[netip.Addr]map[string]bool // nodes that have, or may still have, an address
}

func newDesk(book *facts.Book, now func() time.Time) *desk {
	return &desk{
		book: book, now: now, planner: placement.New(), known: map[string]map[string]bool{},
		hostings: map[string]*hosting{}, holders: map[netip.Addr]map[string]bool{},
	}
}

// inherit begins from what is stored.
func (d *desk) inherit(all facts.Changes) {
	d.tellPlanner(all)
	stored := d.book.Hostings()
	for _, node := range slices.Sorted(maps.Keys(stored)) {
		h := d.hosting(node)
		for _, a := range stored[node].GetAddresses() {
			ip, err := netip.ParseAddr(a.GetIp())
			if err != nil {
				continue
			}
			h.addresses[ip], h.inForce[ip] = a, a
			d.hold(ip, node)
			d.planner.Adopt(placement.Key{Namespace: a.GetNamespace(), Selection: a.GetSelection()}, ip, node)
		}
		for _, text := range stored[node].GetLeaving() {
			if ip, err := netip.ParseAddr(text); err == nil {
				h.leaving[ip] = true
				d.hold(ip, node)
			}
		}
	}
}

func (d *desk) hosting(node string) *hosting {
	if d.hostings[node] == nil {
		d.hostings[node] = &hosting{
			addresses: map[netip.Addr]*egressv1.HostedAddress{}, leaving: map[netip.Addr]bool{}, inForce: map[netip.Addr]*egressv1.HostedAddress{},
		}
	}
	return d.hostings[node]
}

func (d *desk) hold(ip netip.Addr, node string) {
	if d.holders[ip] == nil {
		d.holders[ip] = map[string]bool{}
	}
	d.holders[ip][node] = true
}

// drop forgets that a node has an address.
func (d *desk) drop(ip netip.Addr, node string) {
	h := d.hosting(node)
	delete(h.addresses, ip)
	delete(h.leaving, ip)
	delete(h.inForce, ip)
	if delete(d.holders[ip], node); len(d.holders[ip]) == 0 {
		delete(d.holders, ip)
	}
}

// step decides anew about what changed, and answers what is to be stored: what
// nodes have to hold before what namespaces are told.
func (d *desk) step(c facts.Changes) []write {
	d.tellPlanner(c)
	touched := touched{addresses: map[netip.Addr]bool{}, nodes: map[string]bool{}, namespaces: map[string]bool{}}
	for _, ip := range d.planner.Plan() {
		touched.addresses[ip] = true
	}
	for _, name := range c.Nodes {
		touched.nodes[name] = true
		d.hear(name)
		for ip := range d.hosting(name).addresses {
			touched.addresses[ip] = true
		}
		for ip := range d.hosting(name).leaving {
			touched.addresses[ip] = true
		}
	}
	for _, name := range c.Namespaces {
		touched.namespaces[name] = true
		ns := d.book.Namespace(name)
		for _, s := range selections(ns.Wish) {
			for _, ip := range s.ips {
				touched.addresses[ip] = true
			}
		}
	}
	for _, ip := range slices.SortedFunc(maps.Keys(touched.addresses), netip.Addr.Compare) {
		d.settle(ip, touched)
	}
	var writes []write
	for _, node := range slices.Sorted(maps.Keys(touched.nodes)) {
		writes = append(writes, d.writeHosting(node)...)
		writes = append(writes, d.writeHealth(node)...)
	}
	for _, namespace := range slices.Sorted(maps.Keys(touched.namespaces)) {
		writes = append(writes, d.writeNamespace(namespace)...)
	}
	return writes
}

// touched is what a step may have to store anew.
type touched struct {
	addresses  map[netip.Addr]bool
	nodes      map[string]bool
	namespaces map[string]bool
}

// settle brings an address nearer to where the planner wants it.
func (d *desk) settle(ip netip.Addr, t touched) {
	for _, key := range d.planner.Claims(ip) {
		t.namespaces[key.Namespace] = true
	}
	target := ""
	owner, wanted := d.planner.Owner(ip)
	if wanted {
		target = d.planner.Outcome(owner, ip).Node
	}
	free := true
	for _, node := range slices.Sorted(maps.Keys(d.holders[ip])) {
		if node == target {
			continue
		}
		t.nodes[node] = true
		h := d.hosting(node)
		if a := h.addresses[ip]; a != nil {
			t.namespaces[a.GetNamespace()] = true
		}
		if d.released(node, ip) {
			d.drop(ip, node)
			continue
		}
		delete(h.addresses, ip)
		h.leaving[ip] = true
		free = false
	}
	if target == "" || !free {
		return
	}
	t.nodes[target] = true
	h := d.hosting(target)
	delete(h.leaving, ip)
	d.hold(ip, target)
	h.addresses[ip] = d.entry(owner, ip, h)
}

// released says whether a node certainly has an address no more, or cannot be
// waited for.
func (d *desk) released(node string, ip netip.Addr) bool {
	n := d.book.Node(node)
	if !n.Alive() {
		return true
	}
	return n.Hosting != nil && slices.Contains(n.Hosting.GetLeaving(), ip.String()) &&
		n.Confirmed != 0 && n.Confirmed >= n.Hosting.GetRevision()
}

// hear notes what a node has in force.
func (d *desk) hear(node string) {
	n := d.book.Node(node)
	if n.Hosting == nil || n.Confirmed == 0 || n.Confirmed < n.Hosting.GetRevision() {
		return
	}
	h := d.hosting(node)
	for _, a := range n.Hosting.GetAddresses() {
		if ip, err := netip.ParseAddr(a.GetIp()); err == nil && h.addresses[ip] != nil {
			h.inForce[ip] = a
		}
	}
}

// knows says whether a node that has an address knows whose packets leave by it. It
// matters where a VNID does not tell: a node that has an address of another namespace
// of the same VNID, and does not know yet that it is shared, would take these packets
// for that one's.
func (h *hosting) knows(ip netip.Addr) bool {
	a := h.addresses[ip]
	return !a.GetMatchPods() || proto.Equal(h.inForce[ip], a)
}

// entry is what a node is told of an address.
func (d *desk) entry(owner placement.Key, ip netip.Addr, h *hosting) *egressv1.HostedAddress {
	ns := d.book.Namespace(owner.Namespace)
	a := &egressv1.HostedAddress{
		Ip: ip.String(), Namespace: owner.Namespace, Selection: owner.Selection, Netid: ns.Netid, MatchPods: matchPods(ns),
	}
	used := map[uint32]bool{}
	for other, o := range h.addresses {
		if o.GetNetid() != a.Netid {
			continue
		}
		if other == ip {
			a.Slot = o.GetSlot()
			return a
		}
		used[o.GetSlot()] = true
	}
	for used[a.Slot] {
		a.Slot++
	}
	return a
}

// matchPods says whether a VNID alone does not tell whose packets are meant.
func matchPods(ns facts.Namespace) bool { return ns.Shared || len(ns.Wish.GetPods()) > 0 }

// selection is one assignment of a namespace.
type selection struct {
	name string
	pods map[string]string
	ips  []netip.Addr
}

// selections answers the assignments of a namespace in the order in which a pod
// is matched.
func selections(wish *egressv1.NetNamespaceEgress) []selection {
	var all []selection
	for _, p := range wish.GetPods() {
		all = append(all, selection{p.GetName(), p.GetPodSelector(), addresses(p.GetEgressIps())})
	}
	if len(wish.GetEgressIps()) > 0 {
		all = append(all, selection{spec.DefaultSelection, nil, addresses(wish.GetEgressIps())})
	}
	return all
}

func addresses(texts []string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		if ip, err := netip.ParseAddr(text); err == nil {
			list = append(list, ip)
		}
	}
	return list
}
