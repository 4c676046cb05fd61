package masquerade

import (
	"fmt"
	"strconv"
)

// The chains. Names, comments and order are what operators of OpenShift SDN know.
const (
	chainNotrack    = "OPENSHIFT-NOTRACK"
	chainMasquerade = "OPENSHIFT-MASQUERADE"
	chainAllow      = "OPENSHIFT-FIREWALL-ALLOW"
	chainForward    = "OPENSHIFT-FIREWALL-FORWARD"
	chainAdmin      = "OPENSHIFT-ADMIN-OUTPUT-RULES"
)

// defaultGateway is the device to the pods.
const defaultGateway = "tun0"

// rule is one rule as words, spelled and ordered as `iptables -S` prints it, so that
// what is there can be compared with what should be there. Both backends print alike.
type rule []string

// chain is a chain of ours with all its rules in order.
type chain struct {
	table, name string
	rules       []rule
	egress      bool            // it has rules of egress IPs
	keep        bool            // the administrator's: created, never changed
	spare       func(rule) bool // rules that stay as they are, nil: none
}

// parent is a built-in chain and our jumps from it, in their order. Other rules may
// stand between them.
type parent struct {
	table, name string
	jumps       []rule
}

// tunnelMatch matches the packets that carry the tunnel.
func (c Config) tunnelMatch() rule {
	if c.TunnelPort == 0 {
		return rule{"-p", "gre"}
	}
	return rule{"-p", "udp", "-m", "udp", "--dport", strconv.Itoa(int(c.TunnelPort))}
}

func (c Config) gateway() string {
	if c.Gateway == "" {
		return defaultGateway
	}
	return c.Gateway
}

// and joins parts of a rule.
func and(parts ...rule) rule {
	var joined rule
	for _, p := range parts {
		joined = append(joined, p...)
	}
	return joined
}

func comment(text string) rule { return rule{"-m", "comment", "--comment", text} }
func jump(target string) rule  { return rule{"-j", target} }

// chains answers our chains, each after those that it jumps to.
func chains(c Config) []chain {
	all := []chain{
		{table: "raw", name: chainNotrack, rules: notrackRules(c)},
		{table: "nat", name: chainMasquerade, rules: masqueradeRules(c), egress: true},
		{table: "filter", name: chainAllow, rules: allowRules(c), egress: true},
		{table: "filter", name: chainAdmin, keep: true},
		{table: "filter", name: chainForward, rules: forwardRules(c)},
	}
	if c.Userspace {
		all = append(all, chain{table: "mangle", name: chainEgressMark, rules: egressMarkRules(c), egress: true})
	}
	return all
}

// notrackRules spare tunnel packets the connection tracking: what is inside is tracked.
func notrackRules(c Config) []rule {
	return []rule{and(c.tunnelMatch(), jump("NOTRACK"))}
}

// masqueradeRules give what leaves the cluster the node's address. The first and the
// last rule are those that a real cluster was seen to have. Between them stand the
// exceptions: what goes to a pod keeps its address, and so does what goes to a service
// address; left over there is only what nothing has translated, because the service has
// no endpoints.
func masqueradeRules(c Config) []rule {
	mark := fmt.Sprintf("0x%x/0x%x", uint32(1)<<c.MasqueradeBit, uint32(1)<<c.MasqueradeBit)
	rules := []rule{and(rule{"-m", "mark", "--mark", mark}, jump("RETURN"))}
	for _, from := range c.ClusterNetworks {
		for _, to := range c.ClusterNetworks {
			rules = append(rules, and(rule{"-s", from.String(), "-d", to.String()}, comment("pod-to-pod traffic keeps its address"), jump("RETURN")))
		}
		for _, to := range c.ServiceNetworks {
			rules = append(rules, and(rule{"-s", from.String(), "-d", to.String()}, comment("pod-to-service traffic keeps its address"), jump("RETURN")))
		}
	}
	rules = append(rules, egressSourceRules(c)...)
	for _, from := range c.ClusterNetworks {
		rules = append(rules, and(rule{"-s", from.String()},
			comment("masquerade pod-to-service and pod-to-external traffic"), jump("MASQUERADE")))
	}
	return rules
}

// allowRules open the node's own firewall.
func allowRules(c Config) []rule {
	return append(egressRejectRules(c),
		and(c.tunnelMatch(), comment("tunnel from other nodes"), jump("ACCEPT")),
		and(rule{"-i", c.gateway()}, comment("from pods to this node"), jump("ACCEPT")),
	)
}

// forwardRules open forwarding from and to pods. A packet of a connection that is
// forgotten already must not leave, since it would leave with the pod's own address.
func forwardRules(c Config) []rule {
	var rules []rule
	for _, n := range c.ClusterNetworks {
		rules = append(rules,
			and(rule{"-s", n.String()}, comment("attempted resend after connection close"),
				rule{"-m", "conntrack", "--ctstate", "INVALID"}, jump("DROP")),
			and(rule{"-d", n.String()}, comment("forward traffic to pods"), jump("ACCEPT")),
			and(rule{"-s", n.String()}, comment("forward traffic from pods"), jump("ACCEPT")),
		)
	}
	return rules
}

// parents answers the jumps.
func parents(c Config) []parent {
	notrack := and(comment("disable conntrack for vxlan"), jump(chainNotrack))
	all := []parent{
		{table: "raw", name: "PREROUTING", jumps: []rule{notrack}},
		{table: "raw", name: "OUTPUT", jumps: []rule{notrack}},
		{table: "nat", name: "POSTROUTING", jumps: []rule{
			and(comment("rules for masquerading OpenShift traffic"), jump(chainMasquerade)),
		}},
		{table: "filter", name: "INPUT", jumps: []rule{and(comment("firewall overrides"), jump(chainAllow))}},
		{table: "filter", name: "FORWARD", jumps: []rule{
			and(rule{"-i", c.gateway(), "!", "-o", c.gateway()}, comment("administrator overrides"), jump(chainAdmin)),
			and(comment("firewall overrides"), jump(chainForward)),
		}},
	}
	if c.Userspace {
		all = append(all, parent{table: "mangle", name: "PREROUTING", jumps: []rule{
			and(rule{"-i", c.gateway()}, comment("marks of egress IPs"), jump(chainEgressMark)),
		}})
	}
	return all
}
