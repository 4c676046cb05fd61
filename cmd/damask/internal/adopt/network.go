package adopt

import (
	"net/netip"
	"strings"
)

// PlanName is the name of the one ClusterNetwork that counts.
const PlanName = "default"

// Plugins of OpenShift SDN, which are isolation modes.
const (
	subnetPlugin      = "redhat/openshift-ovs-subnet"
	multitenantPlugin = "redhat/openshift-ovs-multitenant"
	policyPlugin      = "redhat/openshift-ovs-networkpolicy"
)

// addressPlan is what the ClusterNetwork says.
type addressPlan struct {
	plugin   string
	pods     []podRange
	services netip.Prefix
}

// podRange is a cluster network and the number of host bits of a node's subnet in it.
type podRange struct {
	prefix   netip.Prefix
	hostBits int
}

// owns answers whether a network is a node's subnet of the plan.
func (p addressPlan) owns(subnet netip.Prefix) bool {
	for _, r := range p.pods {
		if r.prefix.Contains(subnet.Addr()) && subnet.Bits() == 32-r.hostBits {
			return true
		}
	}
	return false
}

// inside answers whether an address is a pod's or a service's.
func (p addressPlan) inside(a netip.Addr) bool {
	for _, r := range p.pods {
		if r.prefix.Contains(a) {
			return true
		}
	}
	return p.services.IsValid() && p.services.Contains(a)
}

// network reads an IPv4 network without host bits.
func network(text string) (netip.Prefix, string) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return p, "is no network"
	case !p.Addr().Is4():
		return p, "is not IPv4"
	case p != p.Masked():
		return p, "has host bits, " + p.Masked().String() + " has not"
	}
	return p, ""
}

// network judges the ClusterNetwork.
func (k *checker) network() {
	const kind = "ClusterNetwork"
	found := false
	for _, c := range k.cluster.ClusterNetworks {
		lost, _ := k.about(kind, c.Metadata.Name)
		if c.Metadata.Name != PlanName {
			lost("there is one plan, and its name is %s", PlanName)
			continue
		}
		found = true
		k.ranges(c, lost)
		switch k.plan.plugin = c.PluginName; c.PluginName {
		case subnetPlugin, multitenantPlugin, policyPlugin:
		default:
			lost("pluginName %q is not one of OpenShift SDN's", c.PluginName)
		}
		if p := c.VXLANPort; p != nil && (*p < 1 || *p > 65535) {
			lost("vxlanPort %d is not a port", *p)
		}
		if m := c.MTU; m != nil && (*m < 576 || *m > 65535) {
			lost("mtu %d is not 576 to 65535", *m)
		}
	}
	if !found {
		k.add(Lost, kind, PlanName, "there is none: without the address plan nothing can be kept")
	}
}

// ranges reads the ranges of a plan.
func (k *checker) ranges(c ClusterNetwork, lost func(string, ...any)) {
	entries := c.Ranges()
	if len(entries) == 0 {
		lost("it has no clusterNetworks")
	}
	var all []netip.Prefix
	take := func(field, text string) (netip.Prefix, bool) {
		p, wrong := network(text)
		if wrong != "" {
			lost("%s %s %s", field, text, wrong)
			return p, false
		}
		for _, other := range all {
			if other.Overlaps(p) {
				lost("%s %s overlaps %s", field, p, other)
			}
		}
		all = append(all, p)
		return p, true
	}
	for _, e := range entries {
		p, good := take("clusterNetwork", e.CIDR)
		if !good {
			continue
		}
		if n := int(e.HostSubnetLength); n < 2 || n > 32-p.Bits() {
			lost("clusterNetwork %s: hostSubnetLength %d is not 2 to %d", p, n, 32-p.Bits())
			continue
		}
		k.plan.pods = append(k.plan.pods, podRange{p, int(e.HostSubnetLength)})
	}
	if p, good := take("serviceNetwork", c.ServiceNetwork); good {
		k.plan.services = p
	}
}

// Annotations of HostSubnets.
const (
	assignSubnet = "pod.network.openshift.io/assign-subnet"
	fixedVNID    = "pod.network.openshift.io/fixed-vnid-host"
	nodeUID      = "pod.network.openshift.io/node-uid"
)

// subnets judges HostSubnets, and Nodes beside them.
func (k *checker) subnets() {
	const kind = "HostSubnet"
	nodes := map[string]Node{}
	for _, n := range k.cluster.Nodes {
		nodes[n.Metadata.Name] = n
	}
	subnets, addresses, seen := map[netip.Prefix]string{}, map[string]string{}, map[string]bool{}
	for _, h := range k.cluster.HostSubnets {
		name := h.Metadata.Name
		seen[name] = true
		lost, differs := k.about(kind, name)
		if h.Host != name {
			lost("its host is %q, and not its name", h.Host)
		}
		k.hostIP(h, addresses, lost)
		switch p, wrong := network(h.Subnet); {
		case wrong != "":
			lost("subnet %q %s", h.Subnet, wrong)
		case !k.plan.owns(p):
			lost("subnet %s is not a node's subnet of any cluster network", p)
		case subnets[p] != "":
			lost("subnet %s belongs to %s too", p, subnets[p])
		default:
			subnets[p] = name
		}
		for _, annotation := range []string{assignSubnet, fixedVNID} {
			if _, has := h.Metadata.Annotations[annotation]; has {
				lost("annotation %s: Damask knows no host that is not a node of the cluster", annotation)
			}
		}
		uid, made := h.Metadata.Annotations[nodeUID]
		node, there := nodes[name]
		switch {
		case !there && made:
			differs("there is no Node of that name: its subnet is released")
		case there && made && node.Metadata.UID != "" && uid != node.Metadata.UID:
			lost("it was made for another machine (%s), and the Node is %s: it would get another subnet, and its pods other addresses", uid, node.Metadata.UID)
		}
		if ip := node.internalIP(); there && ip != h.HostIP {
			lost("its hostIP is %s, and the Node's InternalIP %q", h.HostIP, ip)
		}
	}
	for _, n := range k.cluster.Nodes {
		if name := n.Metadata.Name; !seen[name] {
			k.add(Differs, "Node", name, "it has no HostSubnet, and gets one")
		}
	}
}

// hostIP judges a node's address.
func (k *checker) hostIP(h HostSubnet, addresses map[string]string, lost func(string, ...any)) {
	a, err := netip.ParseAddr(h.HostIP)
	switch {
	case err != nil || !a.Is4() || a.IsLoopback() || a.IsUnspecified():
		lost("hostIP %q is no IPv4 address by which other nodes reach this one", h.HostIP)
	case k.plan.inside(a):
		lost("hostIP %s is an address of the pod or the service network", a)
	case addresses[a.String()] != "":
		lost("hostIP %s belongs to %s too", a, addresses[a.String()])
	default:
		addresses[a.String()] = h.Metadata.Name
	}
}

// list joins names for a sentence.
func list(names []string) string { return strings.Join(names, ", ") }
