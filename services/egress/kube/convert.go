package kube

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	"github.com/damask-sdn/damask/internal/kube/networkv1"
	"github.com/damask-sdn/damask/internal/rpcerr"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/server"
	"github.com/damask-sdn/damask/services/egress/spec"
)

// everywhere is a range that OpenShift SDN takes for 0.0.0.0/0, and that people have in
// their policies.
const everywhere = "0.0.0.0/32"

// wishOf answers what a NetNamespace says that its namespace wants. What it cannot say stays
// as stored, which is nil if nothing is.
func wishOf(n *networkv1.NetNamespace, stored *egressv1.NetNamespaceEgress) *egressv1.NetNamespaceEgress {
	wish := &egressv1.NetNamespaceEgress{Namespace: n.Name}
	if stored != nil {
		wish = proto.CloneOf(stored)
	}
	wish.EgressIps = texts(n.EgressIPs)
	return wish
}

// offerOf answers what a HostSubnet says that its node may host. Where there are ranges,
// egressIPs are no wish.
func offerOf(h *networkv1.HostSubnet, stored *egressv1.HostSubnetEgress) *egressv1.HostSubnetEgress {
	offer := &egressv1.HostSubnetEgress{Node: h.Name}
	if stored != nil {
		offer = proto.CloneOf(stored)
	}
	offer.EgressCidrs, offer.EgressIps = texts(h.EgressCIDRs), nil
	if len(h.EgressCIDRs) == 0 {
		offer.EgressIps = texts(h.EgressIPs)
	}
	return offer
}

// texts answers a list as the API has it: nil for nothing.
func texts[T ~string](list []T) []string {
	var all []string
	for _, text := range list {
		all = append(all, string(text))
	}
	return all
}

// policyOf answers what an EgressNetworkPolicy says, with its defaults. What the API has no
// value for becomes a violation.
func policyOf(p *networkv1.EgressNetworkPolicy, v *rpcerr.Violations) *egressv1.EgressNetworkPolicy {
	policy := &egressv1.EgressNetworkPolicy{Namespace: p.Namespace, Name: p.Name}
	if p.Spec.Order < 0 || p.Spec.Order > math.MaxUint32 {
		v.Addf("spec.order", "%d is not within 0 to %d", p.Spec.Order, uint32(math.MaxUint32))
	} else {
		policy.Order = uint32(p.Spec.Order)
	}
	for i, r := range p.Spec.Egress {
		policy.Rules = append(policy.Rules, ruleOf(fmt.Sprintf("spec.egress[%d]", i), r, v))
	}
	return spec.PolicyDefaults(policy)
}

func ruleOf(field string, r networkv1.EgressNetworkPolicyRule, v *rpcerr.Violations) *egressv1.EgressRule {
	rule := &egressv1.EgressRule{CidrSelector: r.To.CIDRSelector, DnsName: r.To.DNSName}
	if rule.GetCidrSelector() == everywhere {
		rule.CidrSelector = "0.0.0.0/0"
	}
	switch r.Type {
	case networkv1.Allow:
		rule.Type = egressv1.RuleType_RULE_TYPE_ALLOW
	case networkv1.Deny:
		rule.Type = egressv1.RuleType_RULE_TYPE_DENY
	case "": // found out by the check
	default:
		rule.Type = egressv1.RuleType_RULE_TYPE_ALLOW // the rest is checked all the same
		v.Addf(field+".type", "%q is neither Allow nor Deny", r.Type)
	}
	for i, p := range r.Ports {
		rule.Ports = append(rule.Ports, portOf(fmt.Sprintf("%s.ports[%d]", field, i), p, v))
	}
	return rule
}

func portOf(field string, p networkv1.EgressNetworkPolicyPort, v *rpcerr.Violations) *egressv1.RulePort {
	port := &egressv1.RulePort{Port: number(field+".port", p.Port, v)}
	if p.EndPort != nil {
		if port.EndPort = number(field+".endPort", *p.EndPort, v); *p.EndPort == 0 {
			v.Addf(field+".endPort", "0 is no port")
		}
	}
	switch p.Protocol {
	case "", corev1.ProtocolTCP:
		port.Protocol = egressv1.Protocol_PROTOCOL_TCP
	case corev1.ProtocolUDP:
		port.Protocol = egressv1.Protocol_PROTOCOL_UDP
	case corev1.ProtocolSCTP:
		port.Protocol = egressv1.Protocol_PROTOCOL_SCTP
	default:
		v.Addf(field+".protocol", "%q is none of TCP, UDP and SCTP", p.Protocol)
	}
	return port
}

// number answers a port; what is too large is for the check to say.
func number(field string, n int32, v *rpcerr.Violations) uint32 {
	if n < 0 {
		v.Addf(field, "%d is negative", n)
		return 0
	}
	return uint32(n)
}

// fields says by which names people know the fields that checks speak of.
var fields = strings.NewReplacer(
	"egress_network_policy.rules", "spec.egress", "egress_network_policy.", "metadata.",
	".cidr_selector", ".to.cidrSelector", ".dns_name", ".to.dnsName", ".end_port", ".endPort",
	"net_namespace_egress.egress_ips", "egressIPs", "net_namespace_egress.namespace", "metadata.name", "net_namespace_egress.", "",
	"host_subnet_egress.egress_ips", "egressIPs", "host_subnet_egress.egress_cidrs", "egressCIDRs", "host_subnet_egress.node", "metadata.name",
	"cidr_selector", "to.cidrSelector", "dns_name", "to.dnsName",
)

// complaints answers every violation as a sentence, with the fields as objects have them.
func complaints(found ...*rpcerr.Violations) string {
	var phrases []string
	for _, v := range found {
		for _, violation := range rpcerr.List(v.Err(server.Domain)) {
			phrases = append(phrases, fields.Replace(violation.Field+": "+violation.Reason))
		}
	}
	return strings.Join(slices.Compact(phrases), "; ")
}
