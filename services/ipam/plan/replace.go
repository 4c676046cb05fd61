package plan

import (
	"fmt"
	"net/netip"

	"github.com/damask-sdn/damask/services/ipam/subnet"
)

// Node is what a plan must respect of a node that has a subnet.
type Node struct {
	// Name of the node.
	Name string
	// Subnets are its pod subnets.
	Subnets []netip.Prefix
	// HostIPs are its addresses for tunnel packets.
	HostIPs []netip.Addr
}

// Objections say why a plan cannot take another's place now.
type Objections struct {
	// InUse are changes of what nodes use.
	InUse []string
	// Overlap are nodes' own addresses in a new range.
	Overlap []string
}

// Replace answers why the new plan cannot take the old one's place while
// there are these nodes. A range that has a node's subnet may grow, and must
// keep the size of its subnets; the tunnel stays while there is any node.
func Replace(old, next Plan, nodes []Node) Objections {
	var o Objections
	if old.Tunnel != next.Tunnel && len(nodes) > 0 {
		o.InUse = append(o.InUse, fmt.Sprintf("the tunnel cannot change while %s", count(len(nodes), "node has", "nodes have")+" a subnet"))
	}
	for _, r := range old.Ranges {
		if keeps(next, r) {
			continue
		}
		if users := usersOf(r, nodes); len(users) > 0 {
			o.InUse = append(o.InUse, fmt.Sprintf("%s cannot go, shrink or change the size of its subnets: %s of it (%s first)",
				r, count(len(users), "node has a subnet", "nodes have subnets"), users[0]))
		}
	}
	for _, node := range nodes {
		for _, ip := range node.HostIPs {
			if prefix, what, found := next.Covering(ip); found {
				o.Overlap = append(o.Overlap, fmt.Sprintf("%s %s has %s, the address of node %s", what, prefix, ip, node.Name))
			}
		}
	}
	return o
}

// keeps says whether a plan still has all of a range, in subnets of the same
// size.
func keeps(p Plan, r subnet.Range) bool {
	for _, candidate := range p.Ranges {
		if candidate.HostBits() == r.HostBits() && candidate.Prefix().Bits() <= r.Prefix().Bits() &&
			candidate.Prefix().Contains(r.Prefix().Addr()) {
			return true
		}
	}
	return false
}

func usersOf(r subnet.Range, nodes []Node) []string {
	var users []string
	for _, node := range nodes {
		for _, s := range node.Subnets {
			if r.Prefix().Overlaps(s) {
				users = append(users, node.Name)
				break
			}
		}
	}
	return users
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
