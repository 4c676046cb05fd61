// Package firewallfile reads egress firewalls as people write them.
//
// It owns the fields, which are named and nested as in OpenShift's
// EgressNetworkPolicy, with namespace, name, order and ports beside them. It
// promises that a file is accepted whole or refused with everything that is wrong
// with it, by line, and that the egress service takes what it accepts. It must
// not talk to anybody.
//
// Used by the lab's topology and by `damask egressfirewall`.
package firewallfile

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/damask-sdn/damask/cmd/damask/internal/syntax"
	"github.com/damask-sdn/damask/internal/configfile"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// Limits, as the service has them.
const (
	maxRules = 10_000
	maxPorts = 100
	maxName  = 253
	maxLabel = 63
)

// Document is a file of firewalls.
type Document struct {
	// EgressFirewalls in the file.
	EgressFirewalls []Firewall `yaml:"egressFirewalls"`
}

// Firewall is an EgressNetworkPolicy.
type Firewall struct {
	// Namespace that it judges. Required.
	Namespace string `yaml:"namespace"`
	// Name is a DNS-1123 subdomain. Default: default, as OpenShift has it.
	Name string `yaml:"name"`
	// Order is its place among the policies of the namespace, the lowest first.
	Order uint32 `yaml:"order"`
	// Egress are the rules; the first that matches decides.
	Egress []Rule `yaml:"egress"`
}

// FullName is NAMESPACE/NAME.
func (f *Firewall) FullName() string { return f.Namespace + "/" + f.name() }

func (f *Firewall) name() string {
	if f.Name == "" {
		return "default"
	}
	return f.Name
}

// Rule lets something pass, or drops it.
type Rule struct {
	// Type is Allow or Deny. Required.
	Type string `yaml:"type"`
	// To is where to. Required.
	To Target `yaml:"to"`
	// Ports that it is about; none: every protocol and port.
	Ports []Port `yaml:"ports"`
}

// Target is one of both.
type Target struct {
	// CIDRSelector is a network, or an address with /32.
	CIDRSelector string `yaml:"cidrSelector"`
	// DNSName is a name, or *.NAME for all below it.
	DNSName string `yaml:"dnsName"`
}

// Port is ports of a protocol.
type Port struct {
	// Protocol is TCP (default), UDP or SCTP.
	Protocol string `yaml:"protocol"`
	// Port is 1 to 65535; 0: all.
	Port uint32 `yaml:"port"`
	// EndPort is the last of a range; 0: Port alone.
	EndPort uint32 `yaml:"endPort"`
}

var types = map[string]egressv1.RuleType{
	"Allow": egressv1.RuleType_RULE_TYPE_ALLOW, "Deny": egressv1.RuleType_RULE_TYPE_DENY,
}

var protocols = map[string]egressv1.Protocol{
	"": egressv1.Protocol_PROTOCOL_TCP, "TCP": egressv1.Protocol_PROTOCOL_TCP,
	"UDP": egressv1.Protocol_PROTOCOL_UDP, "SCTP": egressv1.Protocol_PROTOCOL_SCTP,
}

// Load reads the file at path, or standard input when the path is "-".
func Load(path string) (*Document, error) {
	d := &Document{}
	if path == "-" {
		path = "/dev/stdin"
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("there is no file %s", path)
	}
	err := configfile.Load(path, d, func(r *configfile.Report) {
		d.Check(r)
		if len(d.EgressFirewalls) == 0 {
			r.Addf("egressFirewalls", "required")
		}
	})
	return d, err
}

// Check reports everything that is wrong with the firewalls.
func (d *Document) Check(r *configfile.Report) {
	names := map[string]bool{}
	for i := range d.EgressFirewalls {
		f, at := &d.EgressFirewalls[i], r.In(fmt.Sprintf("egressFirewalls[%d]", i))
		f.check(at)
		if names[f.FullName()] {
			at.Addf("name", "there are two firewalls %s", f.FullName())
		}
		names[f.FullName()] = true
	}
}

func (f *Firewall) check(r *configfile.Report) {
	if f.Namespace == "" || !syntax.Label.Fits(f.Namespace) {
		r.Addf("namespace", "%q is not %s", f.Namespace, syntax.Label.Words())
	}
	if !syntax.Subdomain.Fits(f.name()) {
		r.Addf("name", "%q is not %s", f.Name, syntax.Subdomain.Words())
	}
	if n := len(f.Egress); n > maxRules {
		r.Addf("egress", "%d rules: at most %d", n, maxRules)
		return
	}
	for i := range f.Egress {
		f.Egress[i].check(r.In(fmt.Sprintf("egress[%d]", i)))
	}
}

func (rule *Rule) check(r *configfile.Report) {
	if _, known := types[rule.Type]; !known {
		r.Addf("type", "%q is neither Allow nor Deny", rule.Type)
	}
	switch cidr, name := rule.To.CIDRSelector, rule.To.DNSName; {
	case (cidr == "") == (name == ""):
		r.Addf("to", "needs either cidrSelector or dnsName")
	case cidr != "":
		if p, err := netip.ParsePrefix(cidr); err != nil || !p.Addr().Is4() || p != p.Masked() {
			r.Addf("to.cidrSelector", "%q is not an IPv4 network in canonical form", cidr)
		}
	case !isName(name):
		r.Addf("to.dnsName", "%q is not a DNS name such as www.example.com or *.example.com: lower case, no dot at the end", name)
	case strings.HasPrefix(name, "*.") && rule.Type != "Allow":
		r.Addf("to.dnsName", "%q can only be allowed: which names there are below one is known only once a pod has looked them up; deny a range, and allow the names that may pass before it", name)
	}
	if n := len(rule.Ports); n > maxPorts {
		r.Addf("ports", "%d: at most %d", n, maxPorts)
		return
	}
	for i, p := range rule.Ports {
		p.check(r.In(fmt.Sprintf("ports[%d]", i)))
	}
}

func (p Port) check(r *configfile.Report) {
	if _, known := protocols[p.Protocol]; !known {
		r.Addf("protocol", "%q is not one of SCTP, TCP, UDP", p.Protocol)
	}
	if p.Port > 65535 {
		r.Addf("port", "%d: at most 65535", p.Port)
	}
	switch {
	case p.EndPort == 0:
	case p.EndPort > 65535:
		r.Addf("endPort", "%d: at most 65535", p.EndPort)
	case p.Port == 0:
		r.Addf("endPort", "needs a port to begin with")
	case p.EndPort < p.Port:
		r.Addf("endPort", "%d is below port %d", p.EndPort, p.Port)
	}
}

// isName says whether the egress service takes a name.
func isName(name string) bool {
	rest, wildcard := strings.CutPrefix(name, "*.")
	labels := strings.Split(rest, ".")
	for _, label := range labels {
		if label == "" || len(label) > maxLabel || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" ||
			label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	number := strings.Trim(labels[len(labels)-1], "0123456789") == ""
	return len(name) <= maxName && !number && (!wildcard || len(labels) > 1)
}

// Message is the firewall as the egress service takes it.
func (f *Firewall) Message() *egressv1.EgressNetworkPolicy {
	p := &egressv1.EgressNetworkPolicy{Namespace: f.Namespace, Name: f.name(), Order: f.Order}
	for _, rule := range f.Egress {
		r := &egressv1.EgressRule{Type: types[rule.Type], CidrSelector: rule.To.CIDRSelector, DnsName: rule.To.DNSName}
		for _, port := range rule.Ports {
			r.Ports = append(r.Ports, &egressv1.RulePort{Protocol: protocols[port.Protocol], Port: port.Port, EndPort: port.EndPort})
		}
		p.Rules = append(p.Rules, r)
	}
	return p
}
