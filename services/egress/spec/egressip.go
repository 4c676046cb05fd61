package spec

import (
	"fmt"
	"maps"
	"slices"

	"github.com/damask-sdn/damask/internal/rpcerr"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// Limits of wishes; the proto file states them. An assignment is one message on
// the bus, and so is a namespace's wish.
const (
	maxNamespaceIPs = 64
	maxSelections   = 32
	maxListedIPs    = 1024
	maxRanges       = 64
	maxNetworks     = 16
)

// DefaultSelection names the assignment of a namespace's own egress_ips.
const DefaultSelection = "default"

// CheckNetNamespace checks what a namespace wants.
func CheckNetNamespace(n *egressv1.NetNamespaceEgress, v *rpcerr.Violations) {
	const at = "net_namespace_egress."
	CheckNamespace(at+"namespace", n.GetNamespace(), v)
	seen := map[string]string{}
	checkAddresses(at+"egress_ips", n.GetEgressIps(), maxNamespaceIPs, seen, v)
	if len(n.GetPods()) > maxSelections {
		v.Addf(at+"pods", "%d selections, at most %d are allowed", len(n.GetPods()), maxSelections)
	}
	names := map[string]bool{}
	for i, p := range n.GetPods() {
		field := fmt.Sprintf("%spods[%d].", at, i)
		switch problem := dnsLabel(p.GetName()); {
		case problem != "":
			v.Addf(field+"name", "%s", problem)
		case p.GetName() == DefaultSelection:
			v.Addf(field+"name", "%q is the name for pods that no selection takes", DefaultSelection)
		case names[p.GetName()]:
			v.Addf(field+"name", "%q occurs twice", p.GetName())
		}
		names[p.GetName()] = true
		checkSelector(field+"pod_selector", p.GetPodSelector(), v)
		if len(p.GetEgressIps()) == 0 {
			v.Addf(field+"egress_ips", "is required")
		}
		checkAddresses(field+"egress_ips", p.GetEgressIps(), maxNamespaceIPs, seen, v)
	}
}

func checkSelector(field string, selector map[string]string, v *rpcerr.Violations) {
	if len(selector) == 0 {
		v.Addf(field, "is required")
	}
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		add(v, field, labelKey(key))
		add(v, field+"["+key+"]", labelValue(selector[key]))
	}
}

// checkAddresses checks a list; seen has the fields of the addresses so far.
func checkAddresses(field string, list []string, most int, seen map[string]string, v *rpcerr.Violations) {
	if len(list) > most {
		v.Addf(field, "%d addresses, at most %d are allowed", len(list), most)
		return
	}
	for i, s := range list {
		here := fmt.Sprintf("%s[%d]", field, i)
		if problem := address(s); problem != "" {
			v.Addf(here, "%s", problem)
		} else if first, twice := seen[s]; twice {
			v.Addf(here, "%q is in %s already", s, first)
		} else {
			seen[s] = here
		}
	}
}

// CheckHostSubnet checks what a node may host.
func CheckHostSubnet(h *egressv1.HostSubnetEgress, v *rpcerr.Violations) {
	const at = "host_subnet_egress."
	CheckNode(at+"node", h.GetNode(), v)
	checkAddresses(at+"egress_ips", h.GetEgressIps(), maxListedIPs, map[string]string{}, v)
	if len(h.GetEgressCidrs()) > maxRanges {
		v.Addf(at+"egress_cidrs", "%d ranges, at most %d are allowed", len(h.GetEgressCidrs()), maxRanges)
		return
	}
	seen := map[string]int{}
	for i, s := range h.GetEgressCidrs() {
		here := fmt.Sprintf("%segress_cidrs[%d]", at, i)
		if problem := network(s); problem != "" {
			v.Addf(here, "%s", problem)
		} else if first, twice := seen[s]; twice {
			v.Addf(here, "%q is in %segress_cidrs[%d] already", s, at, first)
		} else {
			seen[s] = i
		}
	}
}

// CheckNetworks checks what a node tells of where it is.
func CheckNetworks(r *egressv1.ReportNetworksRequest, v *rpcerr.Violations) {
	CheckNode("node", r.GetNode(), v)
	if n := len(r.GetNetworks()); n == 0 || n > maxNetworks {
		v.Addf("networks", "%d networks, 1 to %d are allowed", n, maxNetworks)
		return
	}
	for i, s := range r.GetNetworks() {
		add(v, fmt.Sprintf("networks[%d]", i), interfaceAddress(s))
	}
}
