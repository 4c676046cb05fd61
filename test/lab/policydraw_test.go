package lab

import (
	"fmt"
	"math/rand/v2"
)

// object is a Kubernetes object, or a part of one.
type object = map[string]any

const everywhere = "0.0.0.0/0"

// Where probes listen and what is asked; what policies say of ports is drawn around it.
var (
	drawnSpaces = []string{"x", "y", "z"}
	drawnPorts  = []int{8079, 8080, 8081, 8090}
	portNames   = []string{"http", "sql"}
)

// policyDraw draws what policies can say, small enough that selectors, blocks and ports
// meet. It leaves out what the oracle is known to read in another way than the
// specification (test/policyoracle/doc.go).
type policyDraw struct {
	*rand.Rand
	// blocks are CIDRs; cluster is that of all pods, of which exceptions are parts.
	blocks, exceptions []string
	cluster            string
	protocols          []string
}

func oneOf[T any](d *policyDraw, from ...T) T { return from[d.IntN(len(from))] }

// several draws least to most of something.
func several[T any](d *policyDraw, least, most int, one func() T) []T {
	all := make([]T, least+d.IntN(most-least+1))
	for i := range all {
		all[i] = one()
	}
	return all
}

func (d *policyDraw) labels() map[string]string {
	labels := map[string]string{}
	for _, key := range []string{"a", "b"} {
		if d.IntN(2) == 0 {
			labels[key] = oneOf(d, "", "1", "2")
		}
	}
	return labels
}

func (d *policyDraw) selector() object {
	s := object{}
	if d.IntN(3) == 0 {
		s["matchLabels"] = d.labels()
	}
	if d.IntN(2) == 0 {
		r := object{"key": oneOf(d, "a", "b", "kubernetes.io/metadata.name"), "operator": oneOf(d, "In", "NotIn", "Exists", "DoesNotExist")}
		if o := r["operator"]; o == "In" || o == "NotIn" {
			r["values"] = several(d, 1, 2, func() string { return oneOf(d, "", "1", "2", "x") })
		}
		s["matchExpressions"] = []object{r}
	}
	return s
}

func (d *policyDraw) block() object {
	switch d.IntN(4) {
	case 0:
		return object{"cidr": d.cluster, "except": several(d, 0, 2, func() string { return oneOf(d, d.exceptions...) })}
	case 1:
		return object{"cidr": everywhere, "except": several(d, 0, 2, func() string { return oneOf(d, append(d.exceptions, d.cluster)...) })}
	}
	return object{"cidr": oneOf(d, d.blocks...)}
}

func (d *policyDraw) peer() object {
	switch d.IntN(4) {
	case 0:
		return object{"ipBlock": d.block()}
	case 1:
		return object{"namespaceSelector": d.selector()}
	case 2:
		return object{"podSelector": d.selector()}
	}
	return object{"namespaceSelector": d.selector(), "podSelector": d.selector()}
}

func (d *policyDraw) port() object {
	p := object{}
	if d.IntN(2) == 0 {
		p["protocol"] = oneOf(d, d.protocols...)
	}
	switch d.IntN(4) {
	case 1:
		p["port"] = oneOf(d, 8079, 8080, 8081)
	case 2:
		p["port"], p["endPort"] = 8080, oneOf(d, 8080, 8081, 8090, 8099)
	case 3:
		p["port"] = oneOf(d, portNames...)
	}
	return p
}

// policy draws a NetworkPolicy. With tiers it isolates both directions.
func (d *policyDraw) policy(namespace, name string, tiers bool) object {
	spec := object{"podSelector": d.selector()}
	types := oneOf(d, nil, []string{"Ingress"}, []string{"Egress"}, []string{"Ingress", "Egress"})
	if tiers {
		types = []string{"Ingress", "Egress"}
	}
	if types != nil {
		spec["policyTypes"] = types
	}
	rules := func(peers string) []object {
		return several(d, 0, 2, func() object { return object{peers: several(d, 0, 2, d.peer), "ports": several(d, 0, 2, d.port)} })
	}
	spec["ingress"], spec["egress"] = rules("from"), rules("to")
	return object{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": object{"namespace": namespace, "name": name}, "spec": spec}
}

func (d *policyDraw) subject() object {
	if d.IntN(2) == 0 {
		return object{"namespaces": d.selector()}
	}
	return object{"pods": object{"namespaceSelector": d.selector(), "podSelector": d.selector()}}
}

func (d *policyDraw) destination() object {
	if d.IntN(3) == 0 {
		return object{"networks": several(d, 1, 2, func() string { return oneOf(d, append(d.blocks, d.cluster, everywhere)...) })}
	}
	return d.subject()
}

func (d *policyDraw) adminPort() object {
	if d.IntN(2) == 0 {
		return object{"portNumber": object{"protocol": oneOf(d, d.protocols...), "port": oneOf(d, 8079, 8080, 8081)}}
	}
	return object{"portRange": object{"protocol": oneOf(d, d.protocols...), "start": 8080, "end": oneOf(d, 8081, 8090, 8099)}}
}

func (d *policyDraw) adminRules(peers string, peer func() object, actions ...string) []object {
	return several(d, 0, 2, func() object {
		r := object{"action": oneOf(d, actions...), peers: several(d, 1, 2, peer)}
		if d.IntN(2) == 0 {
			r["ports"] = several(d, 1, 2, d.adminPort)
		}
		return r
	})
}

// admin draws an AdminNetworkPolicy. No two have one priority: which is asked first then
// nobody says.
func (d *policyDraw) admin(n int) object {
	return object{"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy", "metadata": object{"name": fmt.Sprint("admin", n)}, "spec": object{
		"priority": 10*d.IntN(3) + n, "subject": d.subject(),
		"ingress": d.adminRules("from", d.subject, "Allow", "Deny", "Pass"), "egress": d.adminRules("to", d.destination, "Allow", "Deny", "Pass")}}
}

func (d *policyDraw) baseline() object {
	return object{"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "BaselineAdminNetworkPolicy", "metadata": object{"name": "default"}, "spec": object{
		"subject": d.subject(), "ingress": d.adminRules("from", d.subject, "Allow", "Deny"), "egress": d.adminRules("to", d.destination, "Allow", "Deny")}}
}

// asCluster writes a policy of one of the tiers of v1alpha1 as a ClusterNetworkPolicy,
// which the oracle does not know.
func asCluster(p object) object {
	spec := p["spec"].(object)
	cluster := object{"tier": "Admin", "priority": spec["priority"], "subject": spec["subject"]}
	if p["kind"] == "BaselineAdminNetworkPolicy" {
		cluster["tier"], cluster["priority"] = "Baseline", 0
	}
	for _, direction := range []string{"ingress", "egress"} {
		rules := []object{}
		for _, r := range spec[direction].([]object) {
			rules = append(rules, clusterRule(r))
		}
		cluster[direction] = rules
	}
	return object{"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": p["metadata"], "spec": cluster}
}

func clusterRule(r object) object {
	out := object{}
	for field, value := range r {
		switch {
		case field == "action" && value == "Allow":
			out[field] = "Accept"
		case field == "ports":
			protocols := []object{}
			for _, p := range value.([]object) {
				protocols = append(protocols, clusterProtocol(p))
			}
			out["protocols"] = protocols
		default:
			out[field] = value
		}
	}
	return out
}

func clusterProtocol(p object) object {
	names := map[any]string{"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
	if number, is := p["portNumber"].(object); is {
		return object{names[number["protocol"]]: object{"destinationPort": object{"number": number["port"]}}}
	}
	span := p["portRange"].(object)
	return object{names[span["protocol"]]: object{"destinationPort": object{"range": object{"start": span["start"], "end": span["end"]}}}}
}
