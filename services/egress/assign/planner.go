package assign

import (
	"net/netip"

	"github.com/damask-sdn/damask/services/egress/facts"
	"github.com/damask-sdn/damask/services/egress/placement"
)

// tellPlanner takes changed facts over to the planner.
func (d *desk) tellPlanner(c facts.Changes) {
	if c.Reserved {
		d.planner.SetReserved(d.book.Reserved())
	}
	for _, name := range c.Nodes {
		n := d.book.Node(name)
		if n.HostSubnet == nil && n.Offer == nil {
			d.planner.DeleteNode(name)
			continue
		}
		d.planner.SetNode(name, placementNode(n))
	}
	for _, name := range c.Namespaces {
		d.tellNamespace(name)
	}
}

// placementNode is what a node may host. One that is not registered is in no
// network, so that it is named as the reason and hosts nothing.
func placementNode(n facts.Node) placement.Node {
	to := placement.Node{
		Down: !n.Health.Usable(), Drained: n.Offer.GetDrained(), Limit: placement.NoLimit,
		Listed: addresses(n.Offer.GetEgressIps()),
	}
	if n.Offer != nil && n.Offer.Capacity != nil {
		to.Limit = int(n.Offer.GetCapacity())
	}
	for _, text := range n.Offer.GetEgressCidrs() {
		if r, err := netip.ParsePrefix(text); err == nil {
			to.Ranges = append(to.Ranges, r)
		}
	}
	if n.HostSubnet == nil {
		return to
	}
	to.Addresses = addresses(n.HostSubnet.GetHostIps())
	for _, text := range n.Report.GetNetworks() {
		if network, err := netip.ParsePrefix(text); err == nil {
			to.Networks = append(to.Networks, network)
			to.Addresses = append(to.Addresses, network.Addr())
		}
	}
	return to
}

// tellNamespace takes over what a namespace wants; while it has no VNID there is
// nothing that it could get.
func (d *desk) tellNamespace(name string) {
	ns := d.book.Namespace(name)
	gone := d.known[name]
	known := map[string]bool{}
	if ns.HasNetid {
		for _, s := range selections(ns.Wish) {
			d.planner.SetAssignment(placement.Key{Namespace: name, Selection: s.name}, s.ips)
			known[s.name] = true
			delete(gone, s.name)
		}
	}
	for selection := range gone {
		d.planner.SetAssignment(placement.Key{Namespace: name, Selection: selection}, nil)
	}
	if d.known[name] = known; len(known) == 0 {
		delete(d.known, name)
	}
}
