package assign

import (
	"maps"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/damask-sdn/damask/internal/bucket"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/facts"
	"github.com/damask-sdn/damask/services/egress/liveness"
	"github.com/damask-sdn/damask/services/egress/placement"
	"github.com/damask-sdn/damask/services/egress/spec"
	"github.com/damask-sdn/damask/services/egress/store"
)

// difference is the write that makes a stored object what it should be; none if
// it is. A nil object should not exist.
func difference[T interface {
	proto.Message
	comparable
}](table bucket.Table[T], stored, want T, names ...string) []write {
	var none T
	if stored == want || stored != none && want != none && proto.Equal(stored, want) {
		return nil
	}
	if want == none {
		return []write{{key: table.Key(names...), stage: func(tx *bucket.Tx) { table.Delete(tx, names...) }}}
	}
	return []write{{key: table.Key(names...), object: want, stage: func(tx *bucket.Tx) { table.Put(tx, want, names...) }}}
}

// writeHosting stores what a node has to hold. A node that is there and once had
// something keeps its object: its revision is what the node confirms.
func (d *desk) writeHosting(node string) []write {
	h, n := d.hosting(node), d.book.Node(node)
	empty := len(h.addresses) == 0 && len(h.leaving) == 0
	if empty {
		delete(d.hostings, node)
	}
	stored := n.Hosting
	if empty && (n.HostSubnet == nil || stored == nil) {
		return difference(store.Hostings(), stored, nil, node)
	}
	want := &egressv1.EgressHosting{Node: node}
	for _, ip := range slices.SortedFunc(maps.Keys(h.addresses), netip.Addr.Compare) {
		want.Addresses = append(want.Addresses, h.addresses[ip])
	}
	for _, ip := range slices.SortedFunc(maps.Keys(h.leaving), netip.Addr.Compare) {
		want.Leaving = append(want.Leaving, ip.String())
	}
	want.Revision = stored.GetRevision() // not compared
	return difference(store.Hostings(), stored, want, node)
}

// writeHealth stores what is decided about a node that has told where it is: a
// later leader begins from there.
func (d *desk) writeHealth(node string) []write {
	n := d.book.Node(node)
	if n.Report != nil && n.HostSubnet == nil && n.Departed {
		return []write{{key: store.Nodes().Key(node), stage: func(tx *bucket.Tx) {
			// It may have come back at this moment, and said so.
			if stored, exists, err := store.Nodes().Get(tx, node); err == nil && exists && stored.GetRevision() == n.Report.GetRevision() {
				store.Nodes().Delete(tx, node)
			}
		}}}
	}
	if n.Report == nil || n.Health.Health == liveness.Health(n.Report.GetHealth()) && n.Health.Failures == n.Report.GetFailures() {
		return nil
	}
	verdict := n.Health
	return []write{{key: store.Nodes().Key(node), object: healthy(n.Report, verdict), stage: func(tx *bucket.Tx) {
		// The node itself may be saying where it is, at this moment.
		stored, exists, err := store.Nodes().Get(tx, node)
		if err != nil {
			tx.Fail(err)
		} else if exists {
			store.Nodes().Put(tx, healthy(stored, verdict), node)
		}
	}}}
}

func healthy(n *egressv1.EgressNode, v liveness.Verdict) *egressv1.EgressNode {
	next := proto.CloneOf(n)
	next.Health, next.Failures = egressv1.NodeHealth(v.Health), v.Failures //nolint:gosec // the same numbers
	next.Since = timestamppb.New(v.Since)
	return next
}

// writeNamespace stores what a namespace is told.
func (d *desk) writeNamespace(name string) []write {
	ns := d.book.Namespace(name)
	var writes []write
	wanted := selections(ns.Wish)
	lists := d.podLists(name, ns, wanted)
	for order, s := range wanted {
		old := ns.Assignments[s.name]
		next := &egressv1.EgressAssignment{Namespace: name, Selection: s.name, PodSelector: s.pods, Order: uint32(order)} //nolint:gosec // at most 33
		if ns.HasNetid {
			next.Netid = &ns.Netid
		}
		for _, ip := range s.ips {
			next.Addresses = append(next.Addresses, d.told(placement.Key{Namespace: name, Selection: s.name}, ip, ns, old))
		}
		writes = append(writes, difference(store.Assignments(), old, next, name, s.name)...)
		writes = append(writes, difference(store.Pods(), ns.PodLists[s.name], lists[s.name], name, s.name)...)
		delete(ns.Assignments, s.name)
		delete(ns.PodLists, s.name)
		delete(lists, s.name)
	}
	for rest, list := range lists { // That of the default one, without an assignment.
		writes = append(writes, difference(store.Pods(), ns.PodLists[rest], list, name, rest)...)
		delete(ns.PodLists, rest)
	}
	for _, gone := range slices.Sorted(maps.Keys(ns.Assignments)) {
		writes = append(writes, difference(store.Assignments(), ns.Assignments[gone], nil, name, gone)...)
	}
	for _, gone := range slices.Sorted(maps.Keys(ns.PodLists)) {
		writes = append(writes, difference(store.Pods(), ns.PodLists[gone], nil, name, gone)...)
	}
	return writes
}

// told is what a namespace is told of one address.
func (d *desk) told(key placement.Key, ip netip.Addr, ns facts.Namespace, old *egressv1.EgressAssignment) *egressv1.AssignedAddress {
	a := &egressv1.AssignedAddress{Ip: ip.String(), State: egressv1.AddressState_ADDRESS_STATE_UNHOSTED}
	outcome := d.planner.Outcome(key, ip)
	owner, _ := d.planner.Owner(ip)
	switch {
	case !ns.HasNetid:
		a.Reason, a.Detail = egressv1.AddressReason_ADDRESS_REASON_NO_NETID, "the namespace has no VNID yet"
	case owner != key:
		a.Reason, a.Detail = egressv1.AddressReason(outcome.Reason), outcome.Detail //nolint:gosec // the same numbers
	default:
		d.tellHost(a, ip, outcome)
	}
	a.Since = timestamppb.New(d.now())
	for _, was := range old.GetAddresses() {
		if was.GetIp() == a.GetIp() && was.GetState() == a.GetState() && was.GetNode() == a.GetNode() {
			a.Since = was.GetSince()
		}
	}
	return a
}

// tellHost fills in which node has the address.
func (d *desk) tellHost(a *egressv1.AssignedAddress, ip netip.Addr, outcome placement.Outcome) {
	a.Reason, a.Detail = egressv1.AddressReason(outcome.Reason), outcome.Detail //nolint:gosec // the same numbers
	for _, node := range slices.Sorted(maps.Keys(d.holders[ip])) {
		h := d.hosting(node)
		switch {
		case h.addresses[ip] != nil && node == outcome.Node && !h.knows(ip):
			a.State, a.Node = egressv1.AddressState_ADDRESS_STATE_MOVING, node
			a.Detail = "node " + node + " has not said yet that it knows whose packets leave by it"
			return
		case h.addresses[ip] != nil && node == outcome.Node:
			a.State, a.Node = egressv1.AddressState_ADDRESS_STATE_HOSTED, node
			a.Rule = egressv1.PlacementRule_PLACEMENT_RULE_AUTOMATIC
			if outcome.Manual {
				a.Rule = egressv1.PlacementRule_PLACEMENT_RULE_MANUAL
			}
			if ips := d.book.Node(node).HostSubnet.GetHostIps(); len(ips) > 0 {
				a.NodeIp = ips[0]
			}
			return
		case h.leaving[ip]:
			a.State, a.Node = egressv1.AddressState_ADDRESS_STATE_MOVING, node
			if a.Detail == "" {
				a.Detail = "it goes to node " + outcome.Node + " as soon as node " + node + " has given it up"
			}
			return
		}
	}
}

// podLists answers the addresses of the pods of each selection, if they are
// needed. Pods that no selection takes are those of the default one, also when it
// wants no addresses: their nodes close them until it is known which they are.
func (d *desk) podLists(name string, ns facts.Namespace, wanted []selection) map[string]*egressv1.EgressPods {
	if !matchPods(ns) || len(wanted) == 0 {
		return nil
	}
	lists := map[string]*egressv1.EgressPods{}
	for _, s := range wanted {
		lists[s.name] = &egressv1.EgressPods{Namespace: name, Selection: s.name}
	}
	if lists[spec.DefaultSelection] == nil {
		lists[spec.DefaultSelection] = &egressv1.EgressPods{Namespace: name, Selection: spec.DefaultSelection}
	}
	for _, pod := range d.book.Pods(name) {
		taken := spec.DefaultSelection
		if i := slices.IndexFunc(wanted, func(s selection) bool { return matches(s.pods, pod.Labels) }); i >= 0 {
			taken = wanted[i].name
		}
		lists[taken].PodIps = append(lists[taken].PodIps, pod.IPs...)
	}
	for _, list := range lists {
		slices.SortFunc(list.PodIps, compareText)
		list.PodIps = slices.Compact(list.PodIps)
	}
	return lists
}

// matches says whether a pod with these labels is selected; an empty selector
// selects all.
func matches(selector, labels map[string]string) bool {
	for key, value := range selector {
		if given, has := labels[key]; !has || given != value {
			return false
		}
	}
	return true
}

// compareText orders addresses in text as addresses.
func compareText(a, b string) int {
	x, _ := netip.ParseAddr(a)
	y, _ := netip.ParseAddr(b)
	return x.Compare(y)
}
