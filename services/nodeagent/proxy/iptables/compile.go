package iptables

import (
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// place is a chain of a table.
type place struct{ table, chain string }

// chain is one chain with all its rules in order.
type chain struct {
	name  string
	rules []string
}

// spot is where a service port has rules that must stand in their order: one address
// in one chain that it shares with others.
type spot struct {
	place   place
	address netip.Addr // zero: the node's own, by port
}

// entry is one rule of a service port in a shared chain.
type entry struct {
	spot spot
	rule string
}

// fragment is all that one service port has in the kernel.
type fragment struct {
	chains  []chain // its own, all in table nat; each after those it jumps to
	entries []entry // in fixed chains; for one spot, in their order
}

// compiler makes fragments. It is pure.
type compiler struct{ node proxy.Node }

// target is one service port while it is compiled.
type target struct {
	compiler
	s                         proxy.Service
	cluster, itself, external []netip.AddrPort
	// Chains with the backends; toItself is for what the node itself sends.
	toCluster, toItself, toWorld string
	fragment                     fragment
}

// compile turns a service port into rules. What the rules of a shared chain say
// depends on the service's addresses and on whether there are backends, never on
// which: a change of backends touches the service's own chains alone. So the chain
// KUBE-SVC- is there also without backends, and empty.
func (c compiler) compile(s proxy.Service) fragment {
	t := target{compiler: c, s: s, cluster: own(s.ClusterBackends), external: own(s.ExternalBackends)}
	t.toCluster = serviceChain(prefixService, s.Key)
	t.toItself, t.toWorld = t.toCluster, t.toCluster
	if s.ExternalLocal {
		if t.itself = sorted(s.OwnBackends); len(t.itself) > 0 {
			t.toItself = serviceChain(prefixOwn, s.Key)
		}
	}
	if s.ExternalLocal || !slices.Equal(t.cluster, t.external) {
		t.toWorld = serviceChain(prefixLocal, s.Key)
	}
	t.backendChains()
	t.balance(t.toCluster, t.cluster)
	if t.isExternal() {
		if t.toWorld != t.toCluster {
			t.balance(t.toWorld, t.external)
		}
		if t.toItself != t.toCluster {
			t.balance(t.toItself, t.itself)
		}
		t.externalChain()
	}
	seen := map[netip.Addr]bool{}
	for _, address := range mine(s.ClusterIPs, seen) {
		t.clusterIP(address)
	}
	for _, address := range mine(s.ExternalIPs, seen) {
		t.externalIP(address, serviceChain(prefixExternal, s.Key), "external IP")
	}
	if balancers := mine(s.LoadBalancerIPs, seen); len(balancers) > 0 {
		t.balancerIPs(balancers)
	}
	t.nodePorts()
	return t.fragment
}

// own lists the IPv4 backends, sorted and each once: equal lists make equal rules.
func own(backends []proxy.Backend) []netip.AddrPort { return slices.Compact(sorted(backends)) }

// sorted lists them as often as they are there.
func sorted(backends []proxy.Backend) []netip.AddrPort {
	var all []netip.AddrPort
	for _, b := range backends {
		if b.Addr.Is4() {
			all = append(all, netip.AddrPortFrom(b.Addr, b.Port))
		}
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return all
}

// mine lists the IPv4 addresses that were not seen before, sorted.
func mine(addresses []netip.Addr, seen map[netip.Addr]bool) []netip.Addr {
	var all []netip.Addr
	for _, a := range addresses {
		if a.Is4() && !seen[a] {
			seen[a] = true
			all = append(all, a)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}

// isExternal says that the service has an address besides cluster IPs.
func (t *target) isExternal() bool {
	is4 := netip.Addr.Is4
	return t.s.NodePort != 0 || slices.ContainsFunc(t.s.ExternalIPs, is4) || slices.ContainsFunc(t.s.LoadBalancerIPs, is4)
}

func (t *target) chain(name string, rules ...string) {
	t.fragment.chains = append(t.fragment.chains, chain{name, rules})
}

func (t *target) entry(table, chain string, address netip.Addr, rule string) {
	t.fragment.entries = append(t.fragment.entries, entry{spot{place{table, chain}, address}, rule})
}

// backendChains make a chain for each backend. A backend that asks itself is
// masqueraded: it would otherwise answer itself without the way back through here.
func (t *target) backendChains() {
	all := slices.Clone(t.cluster)
	if t.isExternal() {
		all = slices.Concat(all, t.itself, t.external)
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	for _, b := range slices.Compact(all) {
		name := backendChain(t.s.Key, b)
		remembered := ""
		if t.s.Affinity > 0 {
			remembered = remember(name)
		}
		t.chain(name,
			rule(chainMarkMasq, "-s "+b.Addr().String()+"/32"),
			rule("DNAT --to-destination "+b.String(), protocol(t.s.Protocol), remembered))
	}
}

// balance makes a chain that picks one of the backends: first the one that the client
// had, else each with the same probability.
func (t *target) balance(name string, backends []netip.AddrPort) {
	var rules []string
	comment := note("%s", title(t.s.Key))
	if t.s.Affinity > 0 {
		for _, b := range slices.Compact(slices.Clone(backends)) {
			backend := backendChain(t.s.Key, b)
			rules = append(rules, rule(backend, comment, recall(backend, t.s.Affinity)))
		}
	}
	for i, b := range backends {
		choice := ""
		if left := len(backends) - i; left > 1 {
			choice = probability(left)
		}
		rules = append(rules, rule(backendChain(t.s.Key, b), comment, choice))
	}
	t.chain(name, rules...)
}

// externalChain makes the chain for what comes to external addresses. This node's pods
// keep their address, as with cluster IPs. With a local policy pods and the node itself
// are not bound to this node's backends.
func (t *target) externalChain() {
	name := serviceChain(prefixExternal, t.s.Key)
	what := title(t.s.Key) + " external destinations"
	var rules []string
	if !t.s.ExternalLocal {
		if t.node.Pods.IsValid() {
			rules = append(rules, rule(t.toWorld, source(t.node.Pods), note("pod traffic for %s", what)))
		}
		rules = append(rules, rule(chainMarkMasq, note("masquerade traffic for %s", what)))
	} else {
		for _, network := range t.node.ClusterNetworks {
			rules = append(rules, rule(t.toCluster, source(network), note("pod traffic for %s", what)))
		}
		const fromHere = "-m addrtype --src-type LOCAL"
		rules = append(rules,
			rule(chainMarkMasq, note("masquerade LOCAL traffic for %s", what), fromHere),
			rule(t.toItself, note("route LOCAL traffic for %s", what), fromHere))
	}
	t.chain(name, append(rules, rule(t.toWorld))...)
}

// clusterIP leads a cluster IP to the backends. Clients from elsewhere than the pod
// networks are masqueraded: the reply must come back through this node.
func (t *target) clusterIP(address netip.Addr) {
	p, port := protocol(t.s.Protocol), dport(t.s.Protocol, t.s.Port)
	to, comment := destination(address), note("%s cluster IP", title(t.s.Key))
	if networks := t.node.ClusterNetworks; len(networks) == 1 {
		t.entry(tableNAT, chainServices, address, rule(chainMarkMasq, "! "+source(networks[0]), to, p, comment, port))
	} else {
		// "Not from A and not from B" is no single match; "not from the pods' device" is.
		t.entry(tableNAT, chainServices, address, rule(chainMarkMasq, to, "! -i "+t.node.GatewayName(), p, comment, port))
	}
	t.entry(tableNAT, chainServices, address, rule(t.toCluster, to, p, comment, port))
	if verdict, why := t.verdict(t.s.ClusterVerdict()); verdict != "" {
		t.entry(tableFilter, chainServices, address, rule(verdict, to, p, why, port))
	}
}

// externalIP leads an external address to the chain given.
func (t *target) externalIP(address netip.Addr, chain, kind string) {
	p, port, to := protocol(t.s.Protocol), dport(t.s.Protocol, t.s.Port), destination(address)
	t.entry(tableNAT, chainServices, address, rule(chain, to, p, note("%s %s", title(t.s.Key), kind), port))
	if verdict, why := t.verdict(t.s.ExternalVerdict()); verdict != "" {
		t.entry(tableFilter, chainExternal, address, rule(verdict, to, p, why, port))
	}
}

// balancerIPs leads load balancer addresses on, with ranges only what comes from them.
// What the chain of the ranges does not translate is dropped in the filter, but for
// clients in the ranges whom a missing backend refuses.
func (t *target) balancerIPs(addresses []netip.Addr) {
	p, port := protocol(t.s.Protocol), dport(t.s.Protocol, t.s.Port)
	chain := serviceChain(prefixExternal, t.s.Key)
	comment := note("%s loadbalancer IP", title(t.s.Key))
	if len(t.s.SourceRanges) > 0 {
		ranges := serviceChain(prefixRanges, t.s.Key)
		var rules []string
		for _, from := range t.ranges() {
			rules = append(rules, rule(chain, source(from), comment))
		}
		t.chain(ranges, rules...)
		chain = ranges
	}
	verdict, why := t.verdict(t.s.ExternalVerdict())
	for _, address := range addresses {
		t.externalIP(address, chain, "loadbalancer IP")
		if len(t.s.SourceRanges) == 0 {
			continue
		}
		for _, from := range t.ranges() {
			if verdict != "" {
				t.entry(tableFilter, chainFirewall, address, rule(verdict, source(from), destination(address), p, why, port))
			}
		}
		t.entry(tableFilter, chainFirewall, address, rule("DROP", destination(address), p,
			note("%s traffic not accepted by %s", title(t.s.Key), chain), port))
	}
}

// ranges lists the IPv4 source ranges. None of them: nobody may.
func (t *target) ranges() []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(t.s.SourceRanges), func(p netip.Prefix) bool { return !p.Addr().Is4() })
}

// nodePorts leads the node port on, and lets a load balancer ask for health.
func (t *target) nodePorts() {
	var nodeItself netip.Addr
	p := protocol(t.s.Protocol)
	if t.s.NodePort != 0 {
		port := dport(t.s.Protocol, t.s.NodePort)
		t.entry(tableNAT, chainNodePorts, nodeItself, rule(serviceChain(prefixExternal, t.s.Key), p, note("%s", title(t.s.Key)), port))
		if verdict, why := t.verdict(t.s.ExternalVerdict()); verdict != "" {
			for _, here := range nodeAddresses(t.node) {
				t.entry(tableFilter, chainExternal, nodeItself, rule(verdict, here, p, why, "-m addrtype --dst-type LOCAL", port))
			}
		}
	}
	if t.s.HealthCheckNodePort != 0 {
		t.entry(tableFilter, chainNodePorts, nodeItself, rule("ACCEPT", protocol(proxy.TCP),
			note("%s health check node port", identity(t.s.Key)), dport(proxy.TCP, t.s.HealthCheckNodePort)))
	}
}

// verdict answers the target and the comment for what has no backend, empty for what has.
func (t *target) verdict(v proxy.Verdict) (verdict, why string) {
	switch v {
	case proxy.Reject:
		return reject, note("%s has no endpoints", title(t.s.Key))
	case proxy.Drop:
		return "DROP", note("%s has no local endpoints", title(t.s.Key))
	}
	return "", ""
}
