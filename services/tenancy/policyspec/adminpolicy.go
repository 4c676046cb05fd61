package policyspec

import (
	"slices"
	"strings"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/tenancy/group"
)

// Limits of policy.networking.k8s.io that are the same in all its versions.
const (
	maxPriority     = 1000
	maxNetworks     = 25  // for each peer
	maxRuleName     = 100 // characters
	baselineDefault = "default"
)

// A dialect is what differs between the versions of tiered policies.
type dialect struct {
	rules, peers, ports int    // Limits: for each direction, and for each rule.
	allow               string // What the action is called.
	portsField          string
	readPort            func(*reader, node, *Rule)
}

var (
	v1alpha1 = dialect{rules: 100, peers: 100, ports: 100, allow: "Allow", portsField: "ports", readPort: (*reader).adminPort}
	v1alpha2 = dialect{rules: 25, peers: 25, ports: 25, allow: "Accept", portsField: "protocols", readPort: (*reader).clusterProtocol}
)

// adminPolicy reads the spec of an AdminNetworkPolicy.
func (r *reader) adminPolicy(n node, p *Policy) {
	p.Tier = policy.Admin
	f := r.fields(n, "priority", "subject", "ingress", "egress")
	p.Priority = r.priority(f["priority"])
	r.tiered(f, p, v1alpha1)
}

// baselinePolicy reads the spec of the BaselineAdminNetworkPolicy.
func (r *reader) baselinePolicy(n node, p *Policy) {
	p.Tier = policy.Baseline
	if p.Key.Name != baselineDefault {
		r.refuse("metadata.name", "must be %q: there is one such policy", baselineDefault)
	}
	r.tiered(r.fields(n, "subject", "ingress", "egress"), p, v1alpha1)
}

// clusterPolicy reads the spec of a ClusterNetworkPolicy.
func (r *reader) clusterPolicy(n node, p *Policy) {
	f := r.fields(n, "tier", "priority", "subject", "ingress", "egress")
	switch text := r.text(f["tier"]); text {
	case "Admin":
		p.Tier = policy.Admin
	case "Baseline":
		p.Tier = policy.Baseline
	default:
		r.refuse("spec.tier", "%q is not supported: Admin or Baseline", text)
	}
	p.Priority = r.priority(f["priority"])
	r.tiered(f, p, v1alpha2)
}

func (r *reader) priority(n node) int32 {
	if !r.required(n, "spec.priority") {
		return 0
	}
	return int32(r.number(n, 0, maxPriority))
}

// tiered reads what all of them have.
func (r *reader) tiered(f map[string]node, p *Policy, d dialect) {
	if r.required(f["subject"], "spec.subject") {
		subject := r.fields(f["subject"], "namespaces", "pods")
		p.Subject = r.pods(f["subject"].path, subject["namespaces"], subject["pods"])
	}
	for _, item := range r.limited(f["ingress"], d.rules) {
		p.Rules = append(p.Rules, r.adminRule(item, policy.Ingress, "from", p, d))
	}
	for _, item := range r.limited(f["egress"], d.rules) {
		p.Rules = append(p.Rules, r.adminRule(item, policy.Egress, "to", p, d))
	}
}

// limited reads a list that must not be longer than the API allows.
func (r *reader) limited(n node, most int) []node {
	items := r.items(n)
	if len(items) > most {
		r.refuse(n.path, "has %d items, at most %d are allowed", len(items), most)
		return nil
	}
	return items
}

// pods reads the choice between whole namespaces and pods of namespaces.
func (r *reader) pods(path string, namespaces, pods node) group.Pair {
	switch {
	case namespaces.absent() == pods.absent():
		r.refuse(path, "must have one of namespaces and pods")
		return group.Pair{}
	case pods.absent():
		return group.Pair{Namespaces: r.selector(namespaces)}
	}
	f := r.fields(pods, "namespaceSelector", "podSelector")
	return group.Pair{Namespaces: r.selector(f["namespaceSelector"]), Pods: r.selector(f["podSelector"])}
}

func (r *reader) adminRule(n node, direction policy.Direction, peers string, p *Policy, d dialect) Rule {
	f := r.fields(n, "name", "action", peers, d.portsField)
	rule := Rule{Name: r.text(f["name"]), Direction: direction}
	if len(rule.Name) > maxRuleName {
		r.refuse(n.path+".name", "has %d characters, at most %d are allowed", len(rule.Name), maxRuleName)
	}
	// The one Baseline policy of v1alpha1 is the last word; there is nothing to pass to.
	canPass := p.Key.Kind != KindBaselinePolicy
	rule.Action = r.action(f["action"], n.path+".action", d.allow, canPass)
	items := r.limited(f[peers], d.peers)
	if len(items) == 0 {
		r.refuse(n.path+"."+peers, "must not be empty")
	}
	for _, item := range items {
		rule.Peers = append(rule.Peers, r.adminPeer(item, direction)...)
	}
	// Without ports everything is meant; an empty list the API refuses.
	rule.AnyPort = f[d.portsField].absent()
	ports := r.limited(f[d.portsField], d.ports)
	if !rule.AnyPort && len(ports) == 0 {
		r.refuse(n.path+"."+d.portsField, "must not be empty")
	}
	for _, item := range ports {
		d.readPort(r, item, &rule)
	}
	r.noNamesOutside(n.path+"."+d.portsField, rule)
	return rule
}

// noNamesOutside refuses names of ports for what has none.
func (r *reader) noNamesOutside(path string, rule Rule) {
	isBlock := func(p Peer) bool { return p.Pods == nil }
	if rule.Direction == policy.Egress && len(rule.Named) > 0 && slices.ContainsFunc(rule.Peers, isBlock) {
		r.refuse(path, "must not have named ports together with networks")
	}
}

func (r *reader) action(n node, path, allow string, canPass bool) policy.Action {
	allowed := []string{allow, "Deny"}
	if canPass {
		allowed = append(allowed, "Pass")
	}
	switch text := r.text(n); {
	case text == allow:
		return policy.Allow
	case text == "Deny":
		return policy.Deny
	case text == "Pass" && canPass:
		return policy.Pass
	default:
		r.refuse(path, "%q is not supported: %s", text, strings.Join(allowed, " or "))
	}
	return policy.Deny
}

// adminPeer reads one peer, which is several when it lists networks.
func (r *reader) adminPeer(n node, d policy.Direction) []Peer {
	known := []string{"namespaces", "pods"}
	if d == policy.Egress {
		known = append(known, "networks")
	}
	before := len(r.violations)
	f := r.fields(n, known...)
	if len(r.violations) > before {
		return nil // What is not supported was the peer.
	}
	networks := f["networks"]
	if networks.absent() {
		pair := r.pods(n.path, f["namespaces"], f["pods"])
		return []Peer{{Pods: &pair}}
	}
	if !f["namespaces"].absent() || !f["pods"].absent() {
		r.refuse(n.path, "must have one of namespaces, pods and networks")
	}
	items := r.limited(networks, maxNetworks)
	if len(items) == 0 {
		r.refuse(networks.path, "must not be empty")
	}
	var peers []Peer
	for _, item := range items {
		peers = append(peers, Peer{Block: policy.Block{CIDR: r.prefix(item)}})
	}
	return peers
}
