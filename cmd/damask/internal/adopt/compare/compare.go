// Package compare says where what Damask has differs from what the objects of a cluster
// say.
//
// It owns what of an object Damask keeps, and in which form. It promises to name every
// difference of every object: what only the objects have, what only Damask has, and what
// both have otherwise. It must not talk to anybody, and does not judge whether an object
// can be kept: see package adopt.
package compare

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/damask-sdn/damask/cmd/damask/internal/adopt"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// Stores is what Damask's services have.
type Stores struct {
	// Networks are the address plans, one or none.
	Networks []*ipamv1.ClusterNetwork
	// Mode is the isolation mode.
	Mode tenancyv1.IsolationMode
	// HostSubnets of the nodes, and NodeEgress, what they may host.
	HostSubnets []*ipamv1.HostSubnet
	NodeEgress  []*egressv1.HostSubnetEgress
	// NetNamespaces are the VNIDs, and NamespaceEgress, by what namespaces leave.
	NetNamespaces   []*tenancyv1.NetNamespace
	NamespaceEgress []*egressv1.NetNamespaceEgress
	// Firewalls are the EgressNetworkPolicies.
	Firewalls []*egressv1.EgressNetworkPolicy
	// Policies of all kinds; those that are no NetworkPolicies are left out.
	Policies []*tenancyv1.NetworkPolicy
}

// Difference is one field of one object that Damask has otherwise.
type Difference struct {
	// Kind of the object.
	Kind string `json:"kind" yaml:"kind"`
	// Name of the object, with its namespace before it if it has one.
	Name string `json:"name" yaml:"name"`
	// Field that differs; empty: the whole object is on one side alone.
	Field string `json:"field,omitempty" yaml:"field,omitempty"`
	// Object is what the object says; empty: nothing, or there is none.
	Object string `json:"object" yaml:"object"`
	// Damask is what Damask has; empty: nothing.
	Damask string `json:"damask" yaml:"damask"`
}

// there stands for an object that one side has and the other has not.
const there = "is there"

// Differences answers all, by kind and name.
func Differences(c adopt.Cluster, s Stores) []Difference {
	d := &differences{}
	d.networks(c.ClusterNetworks, s)
	d.hostSubnets(c.HostSubnets, s)
	d.netNamespaces(c.NetNamespaces, s)
	d.firewalls(c.EgressNetworkPolicies, s.Firewalls)
	d.policies(c.NetworkPolicies, s.Policies)
	slices.SortStableFunc(d.found, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return d.found
}

// Node answers the differences of one node: of its HostSubnet.
func Node(c adopt.Cluster, s Stores, name string) []Difference {
	d := &differences{}
	d.hostSubnets(c.HostSubnets, s)
	return slices.DeleteFunc(d.found, func(found Difference) bool { return found.Name != name })
}

type differences struct{ found []Difference }

// field notes a field if both sides differ in it.
func (d *differences) field(kind, name, field, object, damask string) {
	if object != damask {
		d.found = append(d.found, Difference{kind, name, field, object, damask})
	}
}

// each calls both with the objects of a name that both sides have, and notes the others.
func each[O, S any](d *differences, kind string, objects []O, nameOf func(O) string, stored []S, storedName func(S) string, both func(name string, o O, s S)) {
	has := map[string]S{}
	for _, s := range stored {
		has[storedName(s)] = s
	}
	for _, o := range objects {
		name := nameOf(o)
		s, known := has[name]
		if !known {
			d.found = append(d.found, Difference{Kind: kind, Name: name, Object: there})
			continue
		}
		delete(has, name)
		both(name, o, s)
	}
	for name := range has {
		d.found = append(d.found, Difference{Kind: kind, Name: name, Damask: there})
	}
}

func (d *differences) networks(objects []adopt.ClusterNetwork, s Stores) {
	const kind = "ClusterNetwork"
	each(d, kind, objects, func(o adopt.ClusterNetwork) string { return o.Metadata.Name }, s.Networks, (*ipamv1.ClusterNetwork).GetName,
		func(name string, o adopt.ClusterNetwork, n *ipamv1.ClusterNetwork) {
			var says, has []string
			for _, r := range o.Ranges() {
				says = append(says, fmt.Sprintf("%s:%d", canonical(r.CIDR), r.HostSubnetLength))
			}
			for _, r := range n.GetNetworks() {
				has = append(has, fmt.Sprintf("%s:%d", r.GetCidr(), r.GetHostSubnetLength()))
			}
			d.field(kind, name, "clusterNetworks", strings.Join(says, " "), strings.Join(has, " "))
			services := ""
			if len(n.GetServiceNetworks()) > 0 {
				services = n.GetServiceNetworks()[0] // the object can say no more
			}
			d.field(kind, name, "serviceNetwork", canonical(o.ServiceNetwork), services)
			if o.VXLANPort != nil {
				d.field(kind, name, "vxlanPort", fmt.Sprint(*o.VXLANPort), fmt.Sprint(cmp.Or(n.GetTunnel().GetPort(), vxlanPort)))
			}
			if o.MTU != nil {
				d.field(kind, name, "mtu", fmt.Sprint(*o.MTU), fmt.Sprint(n.GetMtu()))
			}
			if o.PluginName != "" {
				d.field(kind, name, "pluginName", o.PluginName, plugins[s.Mode])
			}
		})
}

// vxlanPort is IANA's number, where a plan names none.
const vxlanPort = 4789

// plugins are the names of the modes in a ClusterNetwork.
var plugins = map[tenancyv1.IsolationMode]string{
	tenancyv1.IsolationMode_ISOLATION_MODE_SUBNET:        "redhat/openshift-ovs-subnet",
	tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT:   "redhat/openshift-ovs-multitenant",
	tenancyv1.IsolationMode_ISOLATION_MODE_NETWORKPOLICY: "redhat/openshift-ovs-networkpolicy",
	tenancyv1.IsolationMode_ISOLATION_MODE_COMBINED:      "damask/combined",
}

func (d *differences) hostSubnets(objects []adopt.HostSubnet, s Stores) {
	const kind = "HostSubnet"
	offers := map[string]*egressv1.HostSubnetEgress{}
	for _, o := range s.NodeEgress {
		offers[o.GetNode()] = o
	}
	each(d, kind, objects, func(o adopt.HostSubnet) string { return o.Metadata.Name }, s.HostSubnets, (*ipamv1.HostSubnet).GetName,
		func(name string, o adopt.HostSubnet, h *ipamv1.HostSubnet) {
			d.field(kind, name, "hostIP", o.HostIP, strings.Join(h.GetHostIps(), " "))
			d.field(kind, name, "subnet", canonical(o.Subnet), strings.Join(h.GetSubnets(), " "))
			d.field(kind, name, "egressCIDRs", set(o.EgressCIDRs), set(offers[name].GetEgressCidrs()))
			if len(o.EgressCIDRs) == 0 { // else they are no wish, and change
				d.field(kind, name, "egressIPs", set(o.EgressIPs), set(offers[name].GetEgressIps()))
			}
		})
}

func (d *differences) netNamespaces(objects []adopt.NetNamespace, s Stores) {
	const kind = "NetNamespace"
	wishes := map[string]*egressv1.NetNamespaceEgress{}
	for _, w := range s.NamespaceEgress {
		wishes[w.GetNamespace()] = w
	}
	each(d, kind, objects, func(o adopt.NetNamespace) string { return o.Metadata.Name }, s.NetNamespaces, (*tenancyv1.NetNamespace).GetName,
		func(name string, o adopt.NetNamespace, n *tenancyv1.NetNamespace) {
			d.field(kind, name, "netid", fmt.Sprint(o.NetID), fmt.Sprint(n.GetNetid()))
			d.field(kind, name, "egressIPs", set(o.EgressIPs), set(wishes[name].GetEgressIps()))
		})
}

// set is a list whose order says nothing.
func set(list []string) string {
	list = slices.Clone(list)
	for i, text := range list {
		list[i] = canonical(text)
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), " ")
}

// canonical is a network or an address as Damask writes it; what is neither stays.
func canonical(text string) string {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.String()
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return a.String()
	}
	return text
}
