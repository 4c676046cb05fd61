package policyspec

import (
	"net/netip"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/tenancy/group"
	"github.com/damask-sdn/damask/services/tenancy/kubesyntax"
	"go.yaml.in/yaml/v3"
)

// networkPolicy reads the spec of a NetworkPolicy.
func (r *reader) networkPolicy(n node, p *Policy) {
	p.Tier = policy.Namespace
	f := r.fields(n, "podSelector", "policyTypes", "ingress", "egress")
	p.Subject = group.Pair{Namespace: p.Key.Namespace, Pods: r.selector(f["podSelector"])}
	ingress, egress := r.items(f["ingress"]), r.items(f["egress"])
	r.policyTypes(f["policyTypes"], len(egress) > 0, p)
	// The rules of a direction that is not isolated mean nothing, but are checked.
	for _, item := range ingress {
		if rule := r.rule(item, policy.Ingress, "from", p.Key.Namespace); p.Ingress {
			p.Rules = append(p.Rules, rule)
		}
	}
	for _, item := range egress {
		if rule := r.rule(item, policy.Egress, "to", p.Key.Namespace); p.Egress {
			p.Rules = append(p.Rules, rule)
		}
	}
}

// policyTypes reads which directions are isolated. Unless the policy says it, it
// is ingress, and egress too if there are rules for it.
func (r *reader) policyTypes(n node, hasEgress bool, p *Policy) {
	items := r.items(n)
	if len(items) == 0 {
		p.Ingress, p.Egress = true, hasEgress
		return
	}
	for _, item := range items {
		switch text := r.text(item); text {
		case "Ingress":
			p.Ingress = true
		case "Egress":
			p.Egress = true
		default:
			r.refuse(item.path, "%q is not supported: Ingress or Egress", text)
		}
	}
}

func (r *reader) rule(n node, d policy.Direction, peers, namespace string) Rule {
	f := r.fields(n, "ports", peers)
	rule := Rule{Direction: d, Action: policy.Allow}
	for _, item := range r.items(f[peers]) {
		rule.Peers = append(rule.Peers, r.peer(item, namespace))
	}
	rule.AnyPeer = len(rule.Peers) == 0
	ports := r.items(f["ports"])
	rule.AnyPort = len(ports) == 0
	for _, item := range ports {
		r.policyPort(item, &rule)
	}
	return rule
}

func (r *reader) peer(n node, namespace string) Peer {
	f := r.fields(n, "podSelector", "namespaceSelector", "ipBlock")
	pods, namespaces, block := f["podSelector"], f["namespaceSelector"], f["ipBlock"]
	switch {
	case pods.absent() && namespaces.absent() && block.absent():
		r.refuse(n.path, "must have podSelector, namespaceSelector or ipBlock")
	case !block.absent() && (!pods.absent() || !namespaces.absent()):
		r.refuse(block.path, "must not be there together with selectors")
	case !block.absent():
		return Peer{Block: r.block(block)}
	}
	pair := group.Pair{Pods: r.selector(pods)}
	if namespaces.absent() {
		pair.Namespace = namespace
	} else {
		pair.Namespaces = r.selector(namespaces)
	}
	return Peer{Pods: &pair}
}

func (r *reader) block(n node) policy.Block {
	f := r.fields(n, "cidr", "except")
	b := policy.Block{}
	if r.required(f["cidr"], n.path+".cidr") {
		b.CIDR = r.prefix(f["cidr"])
	}
	for _, item := range r.items(f["except"]) {
		except := r.prefix(item)
		if b.CIDR.IsValid() && except.IsValid() && (!b.CIDR.Contains(except.Addr()) || except.Bits() <= b.CIDR.Bits()) {
			r.refuse(item.path, "%s must be a part of %s, and not all of it", except, b.CIDR)
		}
		b.Except = append(b.Except, except)
	}
	return b
}

// prefix reads a CIDR. As Kubernetes does, it takes one with bits behind the
// prefix, and means the prefix.
func (r *reader) prefix(n node) netip.Prefix {
	text := r.text(n)
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		r.refuse(n.path, "%q is not a CIDR, as 10.0.0.0/8 is", text)
		return netip.Prefix{}
	}
	return p.Masked()
}

// policyPort reads one item of ports into the rule.
func (r *reader) policyPort(n node, rule *Rule) {
	f := r.fields(n, "protocol", "port", "endPort")
	protocol, port, end := r.protocol(f["protocol"]), f["port"], f["endPort"]
	switch {
	case port.absent() && !end.absent():
		r.refuse(end.path, "must not be there without port")
	case port.absent():
		rule.Ports = append(rule.Ports, policy.PortRange{Protocol: protocol})
	case port.Kind == yaml.ScalarNode && port.Tag == "!!str":
		r.check(port.path, kubesyntax.PortName(port.Value))
		if !end.absent() {
			r.refuse(end.path, "must not be there with a named port")
		}
		rule.Named = append(rule.Named, policy.PortName{Protocol: protocol, Name: port.Value})
	default:
		before := len(r.violations)
		first := r.port(port)
		last := first
		if !end.absent() {
			last = r.port(end)
		}
		if len(r.violations) == before && last < first {
			r.refuse(end.path, "%d must not be lower than port %d", last, first)
		}
		rule.Ports = append(rule.Ports, policy.PortRange{Protocol: protocol, First: first, Last: last})
	}
}
