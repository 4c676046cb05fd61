package adopt

import (
	"fmt"
	"net/netip"
	"slices"
)

// mostRules is how many rules an egress firewall can have.
const mostRules = 10_000

// firewalls judges EgressNetworkPolicies.
func (k *checker) firewalls() {
	const kind = "EgressNetworkPolicy"
	count := map[string]int{}
	for _, p := range k.cluster.EgressNetworkPolicies {
		count[p.Metadata.Namespace]++
	}
	vnids, sharing := map[string]int64{}, k.sharing()
	for _, n := range k.cluster.NetNamespaces {
		vnids[n.Metadata.Name] = n.NetID
	}
	for _, p := range k.cluster.EgressNetworkPolicies {
		lost, differs := k.about(kind, p.Metadata.FullName())
		if n := len(p.Spec.Egress); n > mostRules {
			lost("it has %d rules, and %d are the most", n, mostRules)
		}
		for i, rule := range p.Spec.Egress {
			field := fmt.Sprintf("egress[%d]", i)
			if rule.Type != "Allow" && rule.Type != "Deny" {
				lost("%s.type: %q is neither Allow nor Deny", field, rule.Type)
			}
			switch to := rule.To; {
			case (to.CIDRSelector == "") == (to.DNSName == ""):
				lost("%s.to: exactly one of cidrSelector and dnsName is needed", field)
			case to.CIDRSelector != "":
				if _, wrong := network(to.CIDRSelector); wrong != "" {
					lost("%s.to.cidrSelector: %s %s", field, to.CIDRSelector, wrong)
				}
			}
		}
		namespace := p.Metadata.Namespace
		vnid, known := vnids[namespace]
		switch {
		case count[namespace] > 1:
			differs("its namespace has %d of them: OpenShift SDN let nothing out, Damask asks them one after the other, by name", count[namespace])
		case known && vnid == 0:
			differs("its namespace is global: OpenShift SDN took no notice of it, and Damask enforces it")
		case known && len(sharing[vnid]) > 1:
			differs("its namespace shares its VNID (%s): OpenShift SDN let nothing out, Damask judges each namespace by its own", list(sharing[vnid]))
		}
	}
}

// policies judges NetworkPolicies. The other plugins of OpenShift SDN had no use for them.
func (k *checker) policies() {
	for i := range k.cluster.NetworkPolicies {
		p := &k.cluster.NetworkPolicies[i]
		lost, differs := k.about("NetworkPolicy", p.Metadata.FullName())
		if k.plan.plugin != policyPlugin {
			continue // they have no effect before, nor after
		}
		for _, direction := range []struct {
			name  string
			rules []PolicyRule
		}{{"ingress", p.Spec.Ingress}, {"egress", p.Spec.Egress}} {
			for i, rule := range direction.rules {
				field := fmt.Sprintf("%s[%d]", direction.name, i)
				for _, port := range rule.Ports {
					judgePort(field, port, lost, differs)
				}
				for _, peer := range slices.Concat(rule.From, rule.To) {
					judgePeer(field, peer, lost, differs)
				}
			}
		}
	}
}

// judgePort judges a port of a rule.
func judgePort(field string, p PolicyPort, lost, differs func(string, ...any)) {
	if !slices.Contains([]string{"", "TCP", "UDP", "SCTP"}, p.Protocol) {
		lost("%s: protocol %q is not TCP, UDP or SCTP", field, p.Protocol)
	}
	switch port := p.Port.(type) {
	case nil:
		if p.EndPort != nil {
			lost("%s: endPort without port", field)
		}
	case int:
		if port < 1 || port > 65535 {
			lost("%s: %d is not a port", field, port)
		}
		if p.EndPort != nil {
			if *p.EndPort < port || *p.EndPort > 65535 {
				lost("%s: endPort %d is not %d to 65535", field, *p.EndPort, port)
			}
			differs("%s: a range of ports: OpenShift SDN also let port 0 pass", field)
		}
	case string:
		differs("%s: port %q is a name: OpenShift SDN let nothing pass by it, and Damask what the name stands for", field, port)
	default:
		lost("%s: port %v is neither a number nor a name", field, port)
	}
}

// judgePeer judges who is at the other end.
func judgePeer(field string, p PolicyPeer, lost, differs func(string, ...any)) {
	if p.NamespaceSelector.empty() && p.PodSelector == nil {
		differs("%s: an empty namespaceSelector: OpenShift SDN took it for everybody, also outside of the cluster, and it is all pods", field)
	}
	if p.IPBlock == nil {
		return
	}
	block, err := netip.ParsePrefix(p.IPBlock.CIDR)
	if err != nil {
		lost("%s: ipBlock %s is no network", field, p.IPBlock.CIDR)
		return
	}
	for _, text := range p.IPBlock.Except {
		except, err := netip.ParsePrefix(text)
		if err != nil || !block.Contains(except.Addr()) || except.Bits() < block.Bits() {
			lost("%s: except %s is no part of %s", field, text, block)
		}
	}
}
