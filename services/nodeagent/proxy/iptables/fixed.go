package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// fixedChain is a chain that is there with or without services. Rules of services
// stand before its own.
type fixedChain struct {
	place place
	rules []string
}

// parent is a built-in chain and our jumps from it, in their order.
type parent struct {
	place place
	jumps []string
}

// nodeAddresses are the matches for addresses of the node that have node ports, each
// to be joined with "-m addrtype --dst-type LOCAL".
func nodeAddresses(n proxy.Node) []string {
	if len(n.NodePortNetworks) == 0 {
		return []string{"! -d " + loopback}
	}
	var all []string
	for _, p := range sortedNetworks(n.NodePortNetworks) {
		all = append(all, "-d "+p.String())
	}
	return all
}

func sortedNetworks(networks []netip.Prefix) []netip.Prefix {
	sorted := slices.SortedFunc(slices.Values(networks), func(a, b netip.Prefix) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(sorted)
}

// fixedChains answers the fixed chains, each after those that it jumps to.
func fixedChains(n proxy.Node, randomFully bool) []fixedChain {
	bit := fmt.Sprintf("0x%x/0x%x", n.Mark(), n.Mark())
	masquerade := "MASQUERADE"
	if randomFully {
		masquerade += " --random-fully"
	}
	var nodePorts []string
	for _, here := range nodeAddresses(n) {
		nodePorts = append(nodePorts, rule(chainNodePorts, here,
			note("kubernetes service nodeports; NOTE: this must be the last rule in this chain"), "-m addrtype --dst-type LOCAL"))
	}
	return []fixedChain{
		{place{tableNAT, chainMarkMasq}, []string{rule("MARK --set-xmark " + bit)}},
		{place{tableNAT, chainNodePorts}, nil},
		{place{tableNAT, chainServices}, nodePorts},
		{place{tableNAT, chainPostrouting}, []string{
			rule("RETURN", "-m mark ! --mark "+bit),
			// Once more the same bit: xor takes it off, should the packet come by again.
			rule(fmt.Sprintf("MARK --set-xmark 0x%x/0x0", n.Mark())),
			rule(masquerade, note("kubernetes service traffic requiring SNAT")),
		}},
		{place{tableFilter, chainFirewall}, nil},
		{place{tableFilter, chainNodePorts}, nil},
		{place{tableFilter, chainServices}, nil},
		{place{tableFilter, chainExternal}, nil},
		{place{tableFilter, chainForward}, []string{
			rule("ACCEPT", note("kubernetes forwarding rules"), "-m mark --mark "+bit),
			rule("ACCEPT", note("kubernetes forwarding conntrack rule"), "-m conntrack --ctstate RELATED,ESTABLISHED"),
		}},
	}
}

// parents answers the jumps. KUBE-FORWARD comes last: it accepts what is marked, and
// what has no backend may be marked too.
func parents() []parent {
	portals := rule(chainServices, note("kubernetes service portals"))
	const isNew = "-m conntrack --ctstate NEW"
	firewall := rule(chainFirewall, isNew, note("kubernetes load balancer firewall"))
	services := rule(chainServices, isNew, note("kubernetes service portals"))
	external := rule(chainExternal, isNew, note("kubernetes externally-visible service portals"))
	return []parent{
		{place{tableNAT, "PREROUTING"}, []string{portals}},
		{place{tableNAT, "OUTPUT"}, []string{portals}},
		{place{tableNAT, "POSTROUTING"}, []string{rule(chainPostrouting, note("kubernetes postrouting rules"))}},
		{place{tableFilter, "INPUT"}, []string{firewall, rule(chainNodePorts, note("kubernetes health check service ports")), external}},
		{place{tableFilter, "FORWARD"}, []string{firewall, services, external, rule(chainForward, note("kubernetes forwarding rules"))}},
		{place{tableFilter, "OUTPUT"}, []string{firewall, services, external}},
	}
}

// Our jumps stand before these of the pod network. Behind networkFirewall they would
// never see what pods send, since it accepts that. Before networkMasquerade is where
// OpenShift SDN has them.
const (
	networkFirewall   = "OPENSHIFT-FIREWALL-"
	networkMasquerade = "OPENSHIFT-MASQUERADE"
)

// jumpsRight says that a built-in chain has our jumps once, in order, and before the
// pod network's.
func jumpsRight(has, jumps []string) bool {
	var ours []string
	late := false
	for _, r := range has {
		late = late || strings.Contains(r, "-j "+networkFirewall) || strings.Contains(r, "-j "+networkMasquerade)
		if slices.Contains(jumps, r) {
			if late {
				return false
			}
			ours = append(ours, r)
		}
	}
	return slices.Equal(ours, jumps)
}
