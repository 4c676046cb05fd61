package adopt

import (
	"net/netip"
	"slices"
)

const (
	// maxVNID is the highest that VXLAN carries (RFC 7348).
	maxVNID = 1<<24 - 1
	// firstVNID is the lowest that is given out; 2 to 9 are reserved.
	firstVNID = 10

	changeNetwork = "pod.network.openshift.io/multitenant.change-network"
)

// namespaces judges NetNamespaces.
func (k *checker) namespaces() {
	sharing := k.sharing()
	seen := map[string]bool{}
	for _, n := range k.cluster.NetNamespaces {
		name := n.Metadata.Name
		lost, differs := k.about("NetNamespace", name)
		if n.NetName != name {
			lost("its netname is %q, and not its name", n.NetName)
		}
		if seen[name] {
			lost("it is there twice")
		}
		seen[name] = true
		if n.NetID < 0 || n.NetID > maxVNID {
			lost("netid %d is not 0 to %d", n.NetID, maxVNID)
		} else if n.NetID > 1 && n.NetID < firstVNID {
			lost("netid %d is reserved: 0, 1, or from %d on", n.NetID, firstVNID)
		}
		if asked, waits := n.Metadata.Annotations[changeNetwork]; waits {
			lost("%q is asked for and not done: its VNID may change at any moment", asked)
		}
		if others := sharing[n.NetID]; n.NetID > 1 && len(others) > 1 && k.plan.plugin == policyPlugin {
			differs("netid %d belongs to %s: OpenShift SDN took no notice of all but one of them, and Damask keeps it for each", n.NetID, list(others))
		}
	}
}

// sharing answers the namespaces of each VNID, by name.
func (k *checker) sharing() map[int64][]string {
	all := map[int64][]string{}
	for _, n := range k.cluster.NetNamespaces {
		all[n.NetID] = append(all[n.NetID], n.Metadata.Name)
	}
	for _, names := range all {
		slices.Sort(names)
	}
	return all
}

// egressIPs judges which namespaces want which addresses, and which nodes host them.
func (k *checker) egressIPs() {
	hosts, wanted, nodes := map[string][]string{}, map[string][]string{}, map[string]bool{}
	for _, h := range k.cluster.HostSubnets {
		nodes[h.HostIP] = true
	}
	for _, h := range k.cluster.HostSubnets {
		lost, differs := k.about("HostSubnet", h.Metadata.Name)
		for _, text := range h.EgressIPs {
			k.egressIP(text, nodes, lost)
			hosts[text] = append(hosts[text], h.Metadata.Name)
		}
		for _, text := range h.EgressCIDRs {
			if _, wrong := network(text); wrong != "" {
				lost("egressCIDR %q %s", text, wrong)
			}
		}
		if len(h.EgressIPs)+len(h.EgressCIDRs) > 0 {
			differs("it hosts egress IPs: until it is taken over, pods that leave by them do not get out of nodes that are Damask's already, so take it first")
		}
	}
	sharing := k.sharing()
	for _, n := range k.cluster.NetNamespaces {
		lost, differs := k.about("NetNamespace", n.Metadata.Name)
		if len(n.EgressIPs) > 0 && k.plan.plugin == subnetPlugin {
			lost("in subnet mode nobody can tell whose packet leaves: egressIPs have no effect")
		}
		for _, text := range n.EgressIPs {
			k.egressIP(text, nodes, lost)
			wanted[text] = append(wanted[text], n.Metadata.Name)
			if len(hosts[text]) > 1 {
				differs("egress IP %s is at several nodes (%s): OpenShift SDN let nothing out, Damask has one of them host it", text, list(hosts[text]))
			}
		}
		if len(n.EgressIPs) > 0 && n.NetID != 0 && len(sharing[n.NetID]) > 1 {
			differs("its VNID is shared (%s): each of these namespaces leaves by its own egress IPs", list(sharing[n.NetID]))
		}
	}
	for _, n := range k.cluster.NetNamespaces {
		for _, text := range n.EgressIPs {
			if names := wanted[text]; len(names) > 1 {
				k.add(Lost, "NetNamespace", n.Metadata.Name, "egress IP %s is wanted by several namespaces (%s)", text, list(names))
			}
		}
	}
}

// egressIP judges one address.
func (k *checker) egressIP(text string, nodes map[string]bool, lost func(string, ...any)) {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil || !a.Is4() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast():
		lost("egress IP %q is no IPv4 address of a host", text)
	case k.plan.inside(a):
		lost("egress IP %s is an address of the pod or the service network", a)
	case nodes[text]:
		lost("egress IP %s is the address of a node", a)
	}
}
