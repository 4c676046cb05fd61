// Package placement decides which node hosts which egress IP.
//
// It owns the rules, which EgressIPService in damask.egress.v1 states for
// operators. It promises, after each Plan:
//
//   - an address is hosted by one node at most, which may host it, is up and in
//     its network; no node hosts two addresses of one assignment, nor more than
//     its limit;
//   - as many addresses are hosted as can be hosted at all;
//   - no node has less than half of what another has, and two less at least, that it
//     could take from there;
//   - what fits stays where it is, unless one of the two before needs a move;
//   - the same calls give the same result, and a planner that adopts what
//     another decided moves nothing.
//
// It is pure: no clock, no I/O. A change costs what depends on it: the addresses
// of the assignment or node that changed, and those that are not hosted. A
// Planner is for one goroutine.
package placement

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Key names an assignment: a namespace's pods, or a selection of them.
type Key struct{ Namespace, Selection string }

func (k Key) compare(o Key) int {
	return cmp.Or(strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Selection, o.Selection))
}

// NoLimit is a Node.Limit that never binds.
const NoLimit = -1

// Node is what may be hosted on a node.
type Node struct {
	// Addresses are the node's own; they are no egress IPs anywhere.
	Addresses []netip.Addr
	// Networks are those that the node is in. Empty: not known, it hosts nothing.
	Networks []netip.Prefix
	// Down says that the node does not answer.
	Down bool
	// Drained says that the operator wants nothing hosted here.
	Drained bool
	// Listed are the addresses that only nodes that list them host.
	Listed []netip.Addr
	// Ranges are those from which other addresses are placed here.
	Ranges []netip.Prefix
	// Limit is how many addresses the node hosts at most, or NoLimit.
	Limit int
}

// claim is an assignment's wish for an address.
type claim struct {
	key   Key
	place int // in the assignment's list
}

// address is one egress IP that somebody wants.
type address struct {
	ip     netip.Addr
	claims []claim // in order of key
	owner  claim   // whose it is
	host   *node   // nil: not hosted
	manual bool    // while hosted: by a list, not by a range
}

// node is a node and what it hosts.
type node struct {
	Node
	name   string
	hosted map[*address]bool
}

func (n *node) full() bool { return n.Limit >= 0 && len(n.hosted) >= n.Limit }

// seat is a node's only place for an assignment.
type seat struct {
	key  Key
	node *node
}

// Planner holds what is wanted, what is possible, and what was decided.
type Planner struct {
	assignments map[Key][]netip.Addr
	addresses   map[netip.Addr]*address
	nodes       map[string]*node
	reserved    []netip.Prefix

	own       map[netip.Addr]map[*node]bool   // whose own address it is
	listed    map[netip.Addr]map[*node]bool   // who lists it
	ranges    map[netip.Prefix]map[*node]bool // who has the range
	unhosted  map[*address]bool
	seats     map[seat]*address
	dirty     map[netip.Addr]bool
	retry     bool // an address that is not hosted may have become possible
	unequal   bool // loads may have become unequal
	disturbed map[netip.Addr]Outcome
}

// New returns a planner that knows nothing.
func New() *Planner {
	return &Planner{
		assignments: map[Key][]netip.Addr{}, addresses: map[netip.Addr]*address{}, nodes: map[string]*node{},
		own: map[netip.Addr]map[*node]bool{}, listed: map[netip.Addr]map[*node]bool{}, ranges: map[netip.Prefix]map[*node]bool{},
		unhosted: map[*address]bool{}, seats: map[seat]*address{}, dirty: map[netip.Addr]bool{}, disturbed: map[netip.Addr]Outcome{},
	}
}

// SetAssignment takes over the addresses that an assignment wants, in order; an
// empty list removes it. An address that occurs twice counts where it is first.
func (p *Planner) SetAssignment(key Key, ips []netip.Addr) {
	old := p.assignments[key]
	if slices.Equal(old, ips) {
		return
	}
	for _, ip := range old {
		if a := p.addresses[ip]; a != nil {
			a.claims = slices.DeleteFunc(a.claims, func(c claim) bool { return c.key == key })
			p.touch(ip)
		}
	}
	delete(p.assignments, key)
	if len(ips) > 0 {
		p.assignments[key] = slices.Clone(ips)
	}
	for place, ip := range ips {
		a := p.addresses[ip]
		if a == nil {
			a = &address{ip: ip}
			p.addresses[ip] = a
			p.unhosted[a] = true
		}
		at, found := slices.BinarySearchFunc(a.claims, key, func(c claim, k Key) int { return c.key.compare(k) })
		if !found {
			a.claims = slices.Insert(a.claims, at, claim{key, place})
		}
		p.touch(ip)
	}
}

// SetReserved takes over the cluster's own networks, in which no egress IP can
// be.
func (p *Planner) SetReserved(networks []netip.Prefix) {
	if slices.Equal(p.reserved, networks) {
		return
	}
	p.reserved = slices.Clone(networks)
	for ip := range p.addresses {
		p.touch(ip)
	}
}

// SetNode takes over what may be hosted on a node.
func (p *Planner) SetNode(name string, to Node) {
	n := p.nodes[name]
	if n == nil {
		n = &node{name: name, hosted: map[*address]bool{}, Node: Node{Down: true}}
		p.nodes[name] = n
	}
	from := n.Node
	if same(from, to) {
		return
	}
	p.unindex(n)
	n.Node = to
	p.index(n)
	for a := range n.hosted {
		p.touch(a.ip)
	}
	p.retry, p.unequal = true, true
}

// DeleteNode forgets a node.
func (p *Planner) DeleteNode(name string) {
	if p.nodes[name] == nil {
		return
	}
	p.SetNode(name, Node{Down: true})
	n := p.nodes[name]
	p.unindex(n)
	delete(p.nodes, name)
}

// same compares two nodes.
func same(a, b Node) bool {
	return a.Down == b.Down && a.Drained == b.Drained && a.Limit == b.Limit &&
		slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Networks, b.Networks) &&
		slices.Equal(a.Listed, b.Listed) && slices.Equal(a.Ranges, b.Ranges)
}

func (p *Planner) index(n *node) {
	for _, ip := range n.Addresses {
		enter(p.own, ip, n)
		p.touch(ip)
	}
	for _, ip := range n.Listed {
		enter(p.listed, ip, n)
		p.touch(ip)
	}
	for _, r := range n.Ranges {
		enter(p.ranges, r, n)
	}
}

func (p *Planner) unindex(n *node) {
	for _, ip := range n.Addresses {
		leave(p.own, ip, n)
		p.touch(ip)
	}
	for _, ip := range n.Listed {
		leave(p.listed, ip, n)
		p.touch(ip)
	}
	for _, r := range n.Ranges {
		leave(p.ranges, r, n)
	}
}

// Adopt takes over where an address is hosted, and whose it is, from an earlier
// planner. It holds if it still fits when Plan is called.
func (p *Planner) Adopt(owner Key, ip netip.Addr, host string) {
	a, n := p.addresses[ip], p.nodes[host]
	if a == nil || a.host != nil {
		return
	}
	for _, c := range a.claims {
		if c.key == owner {
			a.owner = c
		}
	}
	if n != nil && a.owner.key == owner && p.seats[seat{owner, n}] == nil {
		p.attach(a, n)
	}
	p.touch(ip)
}

// touch says that an address must be looked at.
func (p *Planner) touch(ip netip.Addr) {
	if p.addresses[ip] != nil {
		p.dirty[ip] = true
	}
}

// attach makes a node the host of an address. The address has an owner and no
// host.
func (p *Planner) attach(a *address, n *node) {
	a.host, a.manual = n, p.listed[a.ip] != nil
	n.hosted[a] = true
	p.seats[seat{a.owner.key, n}] = a
	delete(p.unhosted, a)
	p.unequal = true
}

// detach leaves an address without host.
func (p *Planner) detach(a *address) {
	delete(a.host.hosted, a)
	if s := (seat{a.owner.key, a.host}); p.seats[s] == a {
		delete(p.seats, s)
	}
	a.host, a.manual = nil, false
	p.unhosted[a] = true
	p.unequal = true
}

func enter[K comparable](index map[K]map[*node]bool, key K, n *node) {
	if index[key] == nil {
		index[key] = map[*node]bool{}
	}
	index[key][n] = true
}

func leave[K comparable](index map[K]map[*node]bool, key K, n *node) {
	if delete(index[key], n); len(index[key]) == 0 {
		delete(index, key)
	}
}

func byName(set map[*node]bool) []*node {
	return slices.SortedFunc(maps.Keys(set), func(a, b *node) int { return strings.Compare(a.name, b.name) })
}
