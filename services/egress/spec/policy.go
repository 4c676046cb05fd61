package spec

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/rpcerr"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// Limits of policies; the proto file states them.
const (
	maxRules = 10_000
	maxPorts = 100
	maxPort  = 65535
	// maxPolicyBytes keeps a policy one message of NATS, whose limit is 1 MiB.
	maxPolicyBytes = 900 << 10
	maxReported    = 100
)

// CheckPolicyName checks the names of a policy. prefix goes before the fields.
func CheckPolicyName(prefix, namespace, name string, v *rpcerr.Violations) {
	CheckNamespace(prefix+"namespace", namespace, v)
	add(v, prefix+"name", dnsSubdomain(name))
}

// PolicyDefaults answers the policy with its defaults filled in.
func PolicyDefaults(given *egressv1.EgressNetworkPolicy) *egressv1.EgressNetworkPolicy {
	p := proto.CloneOf(given)
	for _, r := range p.GetRules() {
		for _, port := range r.GetPorts() {
			if port.GetProtocol() == egressv1.Protocol_PROTOCOL_UNSPECIFIED {
				port.Protocol = egressv1.Protocol_PROTOCOL_TCP
			}
		}
	}
	return p
}

// CheckPolicy checks a policy that has its defaults.
func CheckPolicy(p *egressv1.EgressNetworkPolicy, v *rpcerr.Violations) {
	const at = "egress_network_policy."
	CheckPolicyName(at, p.GetNamespace(), p.GetName(), v)
	if n := len(p.GetRules()); n > maxRules {
		v.Addf(at+"rules", "%d rules, at most %d are allowed", n, maxRules)
		return
	}
	if size := proto.Size(p); size > maxPolicyBytes {
		v.Addf(at+"rules", "the policy has %d bytes, at most %d are allowed; make it two", size, maxPolicyBytes)
	}
	for i, r := range p.GetRules() {
		checkRule(fmt.Sprintf("%srules[%d]", at, i), r, v)
	}
}

func checkRule(field string, r *egressv1.EgressRule, v *rpcerr.Violations) {
	switch r.GetType() {
	case egressv1.RuleType_RULE_TYPE_ALLOW, egressv1.RuleType_RULE_TYPE_DENY:
	case egressv1.RuleType_RULE_TYPE_UNSPECIFIED:
		v.Addf(field+".type", "is required")
	default:
		v.Addf(field+".type", "%d is not known", r.GetType())
	}
	switch cidr, name := r.GetCidrSelector(), r.GetDnsName(); {
	case cidr == "" && name == "":
		v.Addf(field, "cidr_selector or dns_name is required")
	case cidr != "" && name != "":
		v.Addf(field, "cidr_selector and dns_name exclude each other")
	case cidr != "":
		add(v, field+".cidr_selector", network(cidr))
	case r.GetType() == egressv1.RuleType_RULE_TYPE_DENY && strings.HasPrefix(name, "*."):
		// Nobody may believe that it is closed: addresses come only after a pod's look-up.
		v.Addf(field+".dns_name", "%q cannot be denied: the addresses of names below one are known only once a pod has looked them up; deny a range, and allow the names that may pass before it", name)
	default:
		add(v, field+".dns_name", dnsName(name))
	}
	if n := len(r.GetPorts()); n > maxPorts {
		v.Addf(field+".ports", "%d ports, at most %d are allowed", n, maxPorts)
		return
	}
	for i, p := range r.GetPorts() {
		checkPort(fmt.Sprintf("%s.ports[%d]", field, i), p, v)
	}
}

func checkPort(field string, p *egressv1.RulePort, v *rpcerr.Violations) {
	if _, known := egressv1.Protocol_name[int32(p.GetProtocol())]; !known {
		v.Addf(field+".protocol", "%d is not known", p.GetProtocol())
	}
	if p.GetPort() > maxPort {
		v.Addf(field+".port", "%d is above %d", p.GetPort(), maxPort)
	}
	switch end := p.GetEndPort(); {
	case end == 0:
	case end > maxPort:
		v.Addf(field+".end_port", "%d is above %d", end, maxPort)
	case p.GetPort() == 0:
		v.Addf(field+".end_port", "needs a port to begin with")
	case end < p.GetPort():
		v.Addf(field+".end_port", "%d is below port %d", end, p.GetPort())
	}
}

// dnsName checks the name of a rule: one name, or all below one.
func dnsName(s string) string {
	rest, wildcard := strings.CutPrefix(s, "*.")
	return hostName(s, rest, wildcard)
}

// hostName checks a name in the DNS. Underscores are allowed: records such as
// those of some clouds have them.
func hostName(whole, s string, wildcard bool) string {
	form := fmt.Sprintf("%q is not a DNS name such as www.example.com or *.example.com: lower case letters, digits, '-' and '_', no dot at the end", whole)
	if s == "" || len(whole) > maxSubdomain {
		return form
	}
	parts := strings.Split(s, ".")
	for _, part := range parts {
		if part == "" || len(part) > maxLabel || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || part[0] == '-' || part[len(part)-1] == '-' {
			return form
		}
	}
	if last := parts[len(parts)-1]; strings.Trim(last, "0123456789") == "" {
		return fmt.Sprintf("%q looks like an address; addresses go into cidr_selector", whole)
	}
	if wildcard && len(parts) < 2 {
		return fmt.Sprintf("%q means all names of a top-level domain, which is too much", whole)
	}
	return ""
}

// CheckDNSName checks a name of a rule.
func CheckDNSName(field, s string, v *rpcerr.Violations) { add(v, field, dnsName(s)) }

// CheckReport checks what a node says was looked up.
func CheckReport(r *egressv1.ReportNamesRequest, v *rpcerr.Violations) {
	CheckNode("node", r.GetNode(), v)
	if n := len(r.GetNames()); n == 0 || n > maxReported {
		v.Addf("names", "%d names, 1 to %d are allowed", n, maxReported)
		return
	}
	for i, name := range r.GetNames() {
		add(v, fmt.Sprintf("names[%d]", i), hostName(name, name, false))
	}
}
