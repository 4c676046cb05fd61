package nftables

import (
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// The chains that do not depend on services.
const (
	chainServices     = "services"
	chainMark         = "mark-for-masquerade"
	chainExternalOwn  = "external-own"
	chainSources      = "sources"
	chainRefuse       = "refuse"
	chainRefuseInside = "refuse-inside"
	chainReject       = "reject"
	chainDrop         = "silence"
)

// Priorities. Refusal is before DNAT (-100), as kube-proxy has it in its own tables.
var (
	priorityRefuse = *nftables.ChainPriorityRef(-110)
	priorityDNAT   = *nftables.ChainPriorityNATDest
	prioritySNAT   = *nftables.ChainPriorityNATSource
)

// hook ties a chain to the kernel's hooks.
type hook struct {
	kind     nftables.ChainType
	number   nftables.ChainHook
	priority nftables.ChainPriority
}

// chain is a chain and what it holds.
type chain struct {
	name  string
	hook  *hook // nil: a chain that others lead to
	rules []rule
}

// rule is one rule, and in a few words what it is for.
type rule struct {
	about string
	exprs expressions
}

// when joins parts of a rule.
func when(about string, parts ...expressions) rule {
	whole := rule{about: about}
	for _, p := range parts {
		whole.exprs = append(whole.exprs, p...)
	}
	return whole
}

// standing are the chains that are there without any service. No chain comes before
// one that it leads to.
func standing(node proxy.Node) []chain {
	all := []chain{
		{name: chainMark, rules: []rule{when("to be masqueraded", setMark(node.Mark(), true))}},
		clusterWay(node), externalWay(node), ownWay(), externalLocalWay(node),
		{name: chainSources, rules: sourceRules()},
		limitedWay(limited, external), limitedWay(limitedLocal, externalLocal),
		services(node),
		{name: chainReject, rules: []rule{{"tell the client at once", expressions{reject()}}}},
		{name: chainDrop, rules: []rule{{"another node has backends", expressions{verdict(expr.VerdictDrop, "")}}}},
		{name: chainRefuseInside, rules: refusalRules(node, inside)},
		refuse(node),
	}
	return append(all, hooked(node)...)
}

func hooked(node proxy.Node) []chain {
	nat := func(name string, number *nftables.ChainHook, priority nftables.ChainPriority, rules ...rule) chain {
		return chain{name, &hook{nftables.ChainTypeNAT, *number, priority}, rules}
	}
	translate := rule{"connections to services", expressions{jump(chainServices)}}
	all := []chain{
		nat("nat-prerouting", nftables.ChainHookPrerouting, priorityDNAT, translate),
		nat("nat-output", nftables.ChainHookOutput, priorityDNAT, translate),
		nat("nat-postrouting", nftables.ChainHookPostrouting, prioritySNAT,
			when("as marked", isMarked(node.Mark()), setMark(node.Mark(), false), expressions{&expr.Masq{FullyRandom: true}}),
			when("a backend that asked its own service", isTranslated(),
				expressions{load(offsetSource, r(0)), load(offsetDestination, r(1)), contains(setHairpin, r(0)), &expr.Masq{FullyRandom: true}}),
		),
	}
	for name, number := range map[string]*nftables.ChainHook{
		"filter-input": nftables.ChainHookInput, "filter-forward": nftables.ChainHookForward, "filter-output": nftables.ChainHookOutput,
	} {
		all = append(all, chain{name, &hook{nftables.ChainTypeFilter, *number, priorityRefuse},
			[]rule{when("services without backends", isNew(), expressions{jump(chainRefuse)})}})
	}
	return all
}

// services finds the way of a new connection. Limits are of load balancers' addresses
// only, so node ports have none.
func services(node proxy.Node) chain {
	c := chain{name: chainServices}
	for _, w := range ways() {
		c.rules = append(c.rules, when("to an address of a service", member(w.set(), ofAddress), expressions{goTo(string(w))}))
	}
	for _, w := range []way{external, externalLocal} {
		c.rules = append(c.rules, nodePortRules(node, "to a node port", w.set(), string(w))...)
	}
	return c
}

// member ends the rule unless a frontend of the packet is in a set.
func member(set string, kind frontendKind) expressions {
	return append(loadFrontend(r(1), kind), contains(set, r(1)))
}

// nodePortRules lead to a chain when a node port is in a set, and the packet is to an
// address of the node that has node ports.
func nodePortRules(node proxy.Node, about, set, next string) []rule {
	networks := node.NodePortNetworks
	if len(networks) == 0 {
		networks = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0)}
	}
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	var rules []rule
	for _, network := range networks {
		parts := []expressions{member(set, ofNode), within(offsetDestination, loopback, expr.CmpOpNeq)}
		if network.Bits() > 0 {
			parts = append(parts, within(offsetDestination, network, expr.CmpOpEq))
		}
		rules = append(rules, when(about, append(parts, own(false, r(0)), expressions{goTo(next)})...))
	}
	return rules
}

// clusterWay is the way to cluster IPs.
func clusterWay(node proxy.Node) chain {
	c := chain{name: string(cluster)}
	for _, network := range node.ClusterNetworks {
		c.rules = append(c.rules, when("pods keep their address", within(offsetSource, network, expr.CmpOpEq), expressions{goTo(clusterScope.balance())}))
	}
	c.rules = append(c.rules,
		rule{"others get the node's", expressions{jump(chainMark)}},
		rule{"to a backend", expressions{goTo(clusterScope.balance())}})
	return c
}

// externalWay is the way to external addresses, with externalTrafficPolicy Cluster.
func externalWay(node proxy.Node) chain {
	c := chain{name: string(external)}
	if node.Pods.IsValid() {
		c.rules = append(c.rules, when("this node's pods keep their address", within(offsetSource, node.Pods, expr.CmpOpEq), expressions{goTo(externalScope.balance())}))
	}
	c.rules = append(c.rules,
		rule{"others get the node's address", expressions{jump(chainMark)}},
		rule{"to a backend", expressions{goTo(externalScope.balance())}})
	return c
}

// ownWay is the way of the node's own connections to external addresses, with
// externalTrafficPolicy Local.
func ownWay() chain {
	return chain{name: chainExternalOwn, rules: []rule{
		{"the node's own connections", expressions{jump(chainMark)}},
		{"to what is its own, where there is something", expressions{jump(ownScope.balance())}},
		{"to a backend anywhere", expressions{goTo(clusterScope.balance())}},
	}}
}

// externalLocalWay is the way to external addresses, with externalTrafficPolicy Local.
func externalLocalWay(node proxy.Node) chain {
	c := chain{name: string(externalLocal)}
	for _, network := range node.ClusterNetworks {
		c.rules = append(c.rules, when("pods reach backends anywhere", within(offsetSource, network, expr.CmpOpEq), expressions{goTo(clusterScope.balance())}))
	}
	c.rules = append(c.rules,
		when("so does the node", own(true, r(0)), expressions{goTo(chainExternalOwn)}),
		rule{"others to a backend here, with their address", expressions{goTo(externalScope.balance())}})
	return c
}

// limitedWay lets only some clients go on by another way.
func limitedWay(w, next way) chain {
	return chain{name: string(w), rules: []rule{
		{"only from the source ranges", expressions{jump(chainSources)}},
		{"allowed", expressions{goTo(string(next))}},
	}}
}

// sourceRules return when the client is in a source range. Every length of a network
// has its rule: a hash has no intervals, and a set with intervals is copied whole by
// the kernel at each change.
func sourceRules() []rule {
	var rules []rule
	for bits := net.IPv4len * 8; bits >= 0; bits-- {
		rules = append(rules, when("allowed network", loadFrontend(r(1), ofAddress), masked(offsetSource, bits, r(4)), constant(length(bits), r(5)), expressions{
			contains(setSources, r(1)), verdict(expr.VerdictReturn, "")}))
	}
	return append(rules, rule{"all others", expressions{verdict(expr.VerdictDrop, "")}})
}

// refuse ends new connections to frontends without backends.
func refuse(node proxy.Node) chain {
	c := chain{name: chainRefuse}
	for _, network := range node.ClusterNetworks {
		c.rules = append(c.rules, when("from pods", within(offsetSource, network, expr.CmpOpEq), expressions{goTo(chainRefuseInside)}))
	}
	c.rules = append(c.rules, when("from this node", own(true, r(0)), expressions{goTo(chainRefuseInside)}))
	c.rules = append(c.rules, refusalRules(node, outside)...)
	return c
}

func refusalRules(node proxy.Node, from side) []rule {
	var rules, nodePorts []rule
	for _, r := range refusals() {
		if r.side == from {
			rules = append(rules, when("no backend for this address", member(r.set(), ofAddress), expressions{goTo(r.chain)}))
			nodePorts = append(nodePorts, nodePortRules(node, "no backend for this node port", r.set(), r.chain)...)
		}
	}
	return append(rules, nodePorts...)
}
