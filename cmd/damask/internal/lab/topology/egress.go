package topology

import (
	"fmt"
	"iter"
	"net/netip"

	"github.com/damask-sdn/damask/cmd/damask/internal/syntax"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// The limits of egress for one namespace and for one node.
const (
	maxEgressIPs     = 64
	maxPodEgress     = 32
	maxNodeEgressIPs = 1024
	maxEgressCIDRs   = 64
)

// defaultSelection is what egress calls the pods that no other selection takes.
const defaultSelection = "default"

// egressIPs goes through every egress IP that a namespace wants or a node names.
func (t *Topology) egressIPs() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		var lists [][]netip.Addr
		for _, n := range t.Namespaces {
			lists = append(lists, n.EgressIPs)
			for _, p := range n.PodEgress {
				lists = append(lists, p.EgressIPs)
			}
		}
		for _, n := range t.Nodes {
			lists = append(lists, n.EgressIPs)
		}
		for _, list := range lists {
			for _, ip := range list {
				if !yield(ip) {
					return
				}
			}
		}
	}
}

// egress checks what namespaces want and nodes may host. An address that no node
// hosts is no mistake here: its namespace's pods do not get out, and that can be
// looked at.
func (c *checker) egress() {
	wanted := map[netip.Addr]string{}
	for i, namespace := range c.t.Namespaces {
		path, who := fmt.Sprintf("namespaces[%d]", i), "namespace "+namespace.Name
		c.wants(path+".egressIPs", namespace.EgressIPs, who, wanted)
		if n := len(namespace.PodEgress); n > maxPodEgress {
			c.Addf(path+".podEgress", "%d: at most %d", n, maxPodEgress)
		}
		names := map[string]bool{defaultSelection: false}
		for j, p := range namespace.PodEgress {
			path := fmt.Sprintf("%s.podEgress[%d]", path, j)
			if p.Name == defaultSelection {
				c.Addf(path+".name", "%q means the pods that no other selection takes", p.Name)
			}
			c.name(path+".name", p.Name, syntax.Label, names)
			if len(p.PodSelector) == 0 {
				c.Addf(path+".podSelector", "required: egressIPs of the namespace are for all its pods")
			}
			c.labels(path+".podSelector", p.PodSelector)
			if len(p.EgressIPs) == 0 {
				c.Addf(path+".egressIPs", "required")
			}
			c.wants(path+".egressIPs", p.EgressIPs, who+", selection "+p.Name, wanted)
		}
	}
	for i, node := range c.t.Nodes {
		path := fmt.Sprintf("nodes[%d]", i)
		c.hosts(path, node)
	}
}

// wants checks addresses by which pods leave: each belongs to one namespace and
// selection.
func (c *checker) wants(path string, ips []netip.Addr, who string, wanted map[netip.Addr]string) {
	if len(ips) > 0 && c.t.Mode == "subnet" {
		c.Addf(path, "in subnet mode nobody can tell whose packet leaves: egress IPs need mode multitenant")
	}
	if len(ips) > maxEgressIPs {
		c.Addf(path, "%d: at most %d", len(ips), maxEgressIPs)
	}
	for i, ip := range ips {
		path := fmt.Sprintf("%s[%d]", path, i)
		c.egressIP(path, ip)
		if other, taken := wanted[ip]; taken {
			c.Addf(path, "%s belongs to %s already", ip, other)
			continue
		}
		wanted[ip] = who
	}
}

// hosts checks what a node may host.
func (c *checker) hosts(path string, node Node) {
	if n := len(node.EgressIPs); n > maxNodeEgressIPs {
		c.Addf(path+".egressIPs", "%d: at most %d", n, maxNodeEgressIPs)
	}
	seen := map[netip.Addr]bool{}
	for i, ip := range node.EgressIPs {
		path := fmt.Sprintf("%s.egressIPs[%d]", path, i)
		c.egressIP(path, ip)
		if seen[ip] {
			c.Addf(path, "%s comes twice", ip)
		}
		seen[ip] = true
	}
	if n := len(node.EgressCIDRs); n > maxEgressCIDRs {
		c.Addf(path+".egressCIDRs", "%d: at most %d", n, maxEgressCIDRs)
	}
	for i, cidr := range node.EgressCIDRs {
		path := fmt.Sprintf("%s.egressCIDRs[%d]", path, i)
		if c.prefix(path, cidr, 32) && c.t.Underlay.IsValid() && !c.t.Underlay.Overlaps(cidr) {
			c.Addf(path, "%s has no address of the underlay %s", cidr, c.t.Underlay)
		}
	}
}

// egressIP checks one address: neighbours must be able to ask for it, and nobody
// else may have it.
func (c *checker) egressIP(path string, ip netip.Addr) {
	network := c.t.Underlay
	switch {
	case !ip.IsValid():
		c.Addf(path, "required")
	case !ip.Is4():
		c.Addf(path, "%s is not IPv4; this version knows IPv4 only", ip)
	case !network.Addr().Is4() || network.Bits() > 30: // is reported
	case !network.Contains(ip):
		c.Addf(path, "%s is not an address of the underlay %s", ip, network)
	default:
		if first, last := hostRange(network); ip.Less(first) || last.Less(ip) {
			c.Addf(path, "%s is the network or the broadcast address of %s", ip, network)
		} else if other, taken := c.addresses[ip]; taken {
			c.Addf(path, "%s belongs to %s", ip, other)
		}
	}
}

// Egress is what the namespace wants as egress is told it; nil when it wants nothing.
func (n *Namespace) Egress() *egressv1.NetNamespaceEgress {
	if len(n.EgressIPs)+len(n.PodEgress) == 0 {
		return nil
	}
	wish := &egressv1.NetNamespaceEgress{Namespace: n.Name, EgressIps: texts(n.EgressIPs)}
	for _, p := range n.PodEgress {
		wish.Pods = append(wish.Pods, &egressv1.PodEgress{Name: p.Name, PodSelector: p.PodSelector, EgressIps: texts(p.EgressIPs)})
	}
	return wish
}

// Egress is what the node may host as egress is told it; nil when it hosts nothing.
func (n *Node) Egress() *egressv1.HostSubnetEgress {
	if len(n.EgressIPs)+len(n.EgressCIDRs) == 0 && n.EgressCapacity == nil {
		return nil
	}
	return &egressv1.HostSubnetEgress{Node: n.Name, EgressIps: texts(n.EgressIPs), EgressCidrs: texts(n.EgressCIDRs), Capacity: n.EgressCapacity}
}

func texts[T fmt.Stringer](list []T) []string {
	all := make([]string, len(list))
	for i, item := range list {
		all[i] = item.String()
	}
	return all
}
