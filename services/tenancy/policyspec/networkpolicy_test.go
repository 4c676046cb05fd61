package policyspec

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/tenancy/group"
	"github.com/damask-sdn/damask/services/tenancy/selector"
)

// networkPolicy is a manifest of shop/p with the spec.
func networkPolicy(spec string) []byte {
	return []byte(`{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
		"metadata": {"name": "p", "namespace": "shop", "uid": "42", "labels": {"a": "b"}}, "spec": ` + spec + `}`)
}

func parse(t *testing.T, manifest []byte) Policy {
	t.Helper()
	p, violations := Parse(manifest)
	if violations != nil {
		t.Fatalf("%s: %v", manifest, violations)
	}
	return p
}

func app(name string) selector.Selector { return selector.Labels(map[string]string{"app": name}) }

func TestWhichDirectionsAPolicyIsolates(t *testing.T) {
	tests := []struct {
		name, spec      string
		ingress, egress bool
		rules           int
	}{
		{"no types and no rules: ingress", `{"podSelector": {}}`, true, false, 0},
		{"no spec fields at all: ingress", `{}`, true, false, 0},
		{"no types and rules of egress: both", `{"podSelector": {}, "egress": [{}]}`, true, true, 1},
		{"no types and an empty list for egress: ingress", `{"podSelector": {}, "egress": []}`, true, false, 0},
		{"an empty list of types is no types", `{"podSelector": {}, "policyTypes": [], "egress": [{}]}`, true, true, 1},
		{"egress alone, so rules for ingress mean nothing", `{"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}]}`, false, true, 0},
		{"ingress alone, so rules for egress mean nothing", `{"podSelector": {}, "policyTypes": ["Ingress"], "egress": [{}]}`, true, false, 0},
		{"both, with rules", `{"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}`, true, true, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := parse(t, networkPolicy(test.spec))
			if p.Ingress != test.ingress || p.Egress != test.egress || len(p.Rules) != test.rules {
				t.Errorf("got ingress %v, egress %v and %d rules, want %v, %v and %d", p.Ingress, p.Egress, len(p.Rules),
					test.ingress, test.egress, test.rules)
			}
		})
	}
}

func TestWhatARuleMeans(t *testing.T) {
	all := func(p policy.Protocol) policy.PortRange { return policy.PortRange{Protocol: p} }
	one := func(p policy.Protocol, first, last uint16) policy.PortRange {
		return policy.PortRange{Protocol: p, First: first, Last: last}
	}
	prefix := netip.MustParsePrefix
	tests := []struct {
		name, rule string
		want       Rule
	}{
		{"an empty rule is everything", `{}`, Rule{AnyPeer: true, AnyPort: true}},
		{"empty lists are everything", `{"from": [], "ports": []}`, Rule{AnyPeer: true, AnyPort: true}},
		{"null is not there", `{"from": null, "ports": null}`, Rule{AnyPeer: true, AnyPort: true}},
		{"podSelector is of the policy's own namespace", `{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}`,
			Rule{AnyPort: true, Peers: []Peer{{Pods: &group.Pair{Namespace: "shop", Pods: app("web")}}}}},
		{"an empty podSelector is all pods of its own namespace", `{"from": [{"podSelector": {}}]}`,
			Rule{AnyPort: true, Peers: []Peer{{Pods: &group.Pair{Namespace: "shop", Pods: selector.New()}}}}},
		{"an empty namespaceSelector is all pods, not all the world", `{"from": [{"namespaceSelector": {}}]}`,
			Rule{AnyPort: true, Peers: []Peer{{Pods: &group.Pair{Namespaces: selector.New()}}}}},
		{"namespaceSelector alone is all pods there", `{"from": [{"namespaceSelector": {"matchLabels": {"app": "web"}}}]}`,
			Rule{AnyPort: true, Peers: []Peer{{Pods: &group.Pair{Namespaces: app("web")}}}}},
		{"both selectors in one item must both hold", `{"from": [{"namespaceSelector": {"matchLabels": {"app": "a"}}, "podSelector": {"matchLabels": {"app": "b"}}}]}`,
			Rule{AnyPort: true, Peers: []Peer{{Pods: &group.Pair{Namespaces: app("a"), Pods: app("b")}}}}},
		{"both selectors in two items are two peers", `{"from": [{"namespaceSelector": {"matchLabels": {"app": "a"}}}, {"podSelector": {"matchLabels": {"app": "b"}}}]}`,
			Rule{AnyPort: true, Peers: []Peer{{Pods: &group.Pair{Namespaces: app("a")}}, {Pods: &group.Pair{Namespace: "shop", Pods: app("b")}}}}},
		{"every operator", `{"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["x", "y"]},
			{"key": "b", "operator": "NotIn", "values": ["x"]}, {"key": "c", "operator": "Exists"}, {"key": "d", "operator": "DoesNotExist", "values": []}]}}]}`,
			Rule{AnyPort: true, Peers: []Peer{{Pods: &group.Pair{Namespace: "shop", Pods: selector.New(
				selector.Requirement{Key: "a", Operator: selector.In, Values: []string{"x", "y"}},
				selector.Requirement{Key: "b", Operator: selector.NotIn, Values: []string{"x"}},
				selector.Requirement{Key: "c", Operator: selector.Exists}, selector.Requirement{Key: "d", Operator: selector.DoesNotExist})}}}}},
		{"a block", `{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}`,
			Rule{AnyPort: true, Peers: []Peer{{Block: policy.Block{CIDR: prefix("10.0.0.0/8")}}}}},
		{"a block with exceptions", `{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.1/32"]}}]}`,
			Rule{AnyPort: true, Peers: []Peer{{Block: policy.Block{CIDR: prefix("10.0.0.0/8"),
				Except: []netip.Prefix{prefix("10.1.0.0/16"), prefix("10.2.0.1/32")}}}}}},
		{"a block with bits behind its prefix", `{"from": [{"ipBlock": {"cidr": "10.1.2.3/8"}}]}`,
			Rule{AnyPort: true, Peers: []Peer{{Block: policy.Block{CIDR: prefix("10.0.0.0/8")}}}}},
		{"a block of IPv6", `{"from": [{"ipBlock": {"cidr": "fd00::/8"}}]}`,
			Rule{AnyPort: true, Peers: []Peer{{Block: policy.Block{CIDR: prefix("fd00::/8")}}}}},
		{"a port is TCP unless it says otherwise", `{"ports": [{"port": 80}]}`, Rule{AnyPeer: true, Ports: []policy.PortRange{one(policy.TCP, 80, 80)}}},
		{"an empty port is all of TCP", `{"ports": [{}]}`, Rule{AnyPeer: true, Ports: []policy.PortRange{all(policy.TCP)}}},
		{"a protocol alone is all its ports", `{"ports": [{"protocol": "SCTP"}]}`, Rule{AnyPeer: true, Ports: []policy.PortRange{all(policy.SCTP)}}},
		{"endPort belongs to the range", `{"ports": [{"protocol": "UDP", "port": 1000, "endPort": 2000}]}`,
			Rule{AnyPeer: true, Ports: []policy.PortRange{one(policy.UDP, 1000, 2000)}}},
		{"endPort may be the port", `{"ports": [{"port": 9, "endPort": 9}]}`, Rule{AnyPeer: true, Ports: []policy.PortRange{one(policy.TCP, 9, 9)}}},
		{"a named port stays a name", `{"ports": [{"protocol": "UDP", "port": "dns"}, {"port": 53}]}`,
			Rule{AnyPeer: true, Ports: []policy.PortRange{one(policy.TCP, 53, 53)}, Named: []policy.PortName{{Protocol: policy.UDP, Name: "dns"}}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.want.Action, test.want.Direction = policy.Allow, policy.Ingress
			p := parse(t, networkPolicy(`{"podSelector": {}, "ingress": [`+test.rule+`]}`))
			if !reflect.DeepEqual(p.Rules, []Rule{test.want}) {
				t.Errorf("got %+v, want %+v", p.Rules, test.want)
			}
		})
	}
}

func TestYAMLIsReadAsJSONIs(t *testing.T) {
	p := parse(t, []byte(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector:
    matchLabels: {app: web}
  egress:
  - to:
    - podSelector: {}
    ports: [{port: 53, protocol: UDP}]
`))
	want := Policy{Key: policy.Key{Kind: "NetworkPolicy", Namespace: "shop", Name: "web"}, Tier: policy.Namespace,
		Subject: group.Pair{Namespace: "shop", Pods: app("web")}, Ingress: true, Egress: true, Rules: []Rule{{Direction: policy.Egress,
			Action: policy.Allow, Peers: []Peer{{Pods: &group.Pair{Namespace: "shop", Pods: selector.New()}}},
			Ports: []policy.PortRange{{Protocol: policy.UDP, First: 53, Last: 53}}}}}
	if fmt.Sprintf("%+v", p.Subject) != fmt.Sprintf("%+v", want.Subject) || !reflect.DeepEqual(p, want) {
		t.Errorf("got %+v, want %+v", p, want)
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	ingress := func(rule string) string { return `{"podSelector": {}, "ingress": [` + rule + `]}` }
	tests := []struct{ name, spec, want string }{
		{"a field that is not there in Kubernetes", `{"podSelector": {}, "priority": 5}`, `spec.priority is not supported`},
		{"a field of a rule", ingress(`{"fromm": []}`), `spec.ingress[0].fromm is not supported`},
		{"to in ingress", ingress(`{"to": []}`), `spec.ingress[0].to is not supported`},
		{"a field twice", `{"podSelector": {}, "podSelector": {}}`, `spec.podSelector is there twice`},
		{"a label twice", `{"podSelector": {"matchLabels": {"a": "1", "a": "2"}}}`, `spec.podSelector.matchLabels.a is there twice`},
		{"an object that is a list", `{"podSelector": []}`, `spec.podSelector must be an object`},
		{"a list that is an object", `{"ingress": {}}`, `spec.ingress must be a list`},
		{"an unknown policy type", `{"policyTypes": ["Both"]}`, `spec.policyTypes[0] "Both" is not supported: Ingress or Egress`},
		{"an empty peer", ingress(`{"from": [{}]}`), `spec.ingress[0].from[0] must have podSelector, namespaceSelector or ipBlock`},
		{"a null peer", ingress(`{"from": [null]}`), `spec.ingress[0].from[0] must have podSelector, namespaceSelector or ipBlock`},
		{"a block with a selector", ingress(`{"from": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}`),
			`spec.ingress[0].from[0].ipBlock must not be there together with selectors`},
		{"a block without a CIDR", ingress(`{"from": [{"ipBlock": {}}]}`), `spec.ingress[0].from[0].ipBlock.cidr is required`},
		{"a CIDR that is an address", ingress(`{"from": [{"ipBlock": {"cidr": "10.0.0.1"}}]}`),
			`spec.ingress[0].from[0].ipBlock.cidr "10.0.0.1" is not a CIDR, as 10.0.0.0/8 is`},
		{"an exception outside of the block", ingress(`{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}`),
			`spec.ingress[0].from[0].ipBlock.except[0] 11.0.0.0/16 must be a part of 10.0.0.0/8, and not all of it`},
		{"an exception that is the block", ingress(`{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}`),
			`spec.ingress[0].from[0].ipBlock.except[0] 10.0.0.0/8 must be a part of 10.0.0.0/8, and not all of it`},
		{"an operator without values", ingress(`{"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}]}`),
			`spec.ingress[0].from[0].podSelector.matchExpressions[0].values must not be empty for the operator In`},
		{"an operator with values that it does not take", `{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]}}`,
			`spec.podSelector.matchExpressions[0].values must be empty for the operator Exists`},
		{"an unknown operator", `{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}}`,
			`spec.podSelector.matchExpressions[0].operator "Gt" is not supported: In, NotIn, Exists or DoesNotExist`},
		{"a number for a label", `{"podSelector": {"matchLabels": {"a": 1}}}`, `spec.podSelector.matchLabels.a must be a string`},
		{"an unknown protocol", ingress(`{"ports": [{"protocol": "ICMP"}]}`), `spec.ingress[0].ports[0].protocol "ICMP" is not supported: TCP, UDP or SCTP`},
		{"port 0", ingress(`{"ports": [{"port": 0}]}`), `spec.ingress[0].ports[0].port must be a number from 1 to 65535`},
		{"endPort without port", ingress(`{"ports": [{"endPort": 9}]}`), `spec.ingress[0].ports[0].endPort must not be there without port`},
		{"endPort with a name", ingress(`{"ports": [{"port": "http", "endPort": 9}]}`), `spec.ingress[0].ports[0].endPort must not be there with a named port`},
		{"endPort below port", ingress(`{"ports": [{"port": 10, "endPort": 9}]}`), `spec.ingress[0].ports[0].endPort 9 must not be lower than port 10`},
		{"endPort too high", ingress(`{"ports": [{"port": 10, "endPort": 65536}]}`), `spec.ingress[0].ports[0].endPort must be a number from 1 to 65535`},
		{"a rule of a direction that is not isolated", `{"policyTypes": ["Egress"], "ingress": [{"from": [{}]}]}`,
			`spec.ingress[0].from[0] must have podSelector, namespaceSelector or ipBlock`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, violations := Parse(networkPolicy(test.spec))
			if len(violations) != 1 || violations[0].String() != test.want || !reflect.DeepEqual(p, Policy{}) {
				t.Errorf("got %+v with %q, want only %q", p, violations, test.want)
			}
		})
	}
}

func TestAllThatIsWrongIsNamedAtOnce(t *testing.T) {
	_, violations := Parse([]byte(`{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "P"},
		"spec": {"ingress": [{"ports": [{"port": 0}, {"port": -1}]}], "x": 1}}`))
	var fields []string
	for _, v := range violations {
		fields = append(fields, v.Field)
	}
	want := []string{"metadata.name", "metadata.namespace", "spec.x", "spec.ingress[0].ports[0].port", "spec.ingress[0].ports[1].port"}
	if !reflect.DeepEqual(fields, want) {
		t.Errorf("got %v, want %v", fields, want)
	}
}

func TestWhatIsNoPolicyIsRefused(t *testing.T) {
	tests := []struct{ name, manifest string }{
		{"nothing", ""}, {"no YAML", "{"}, {"a scalar", "5"}, {"a list", "[]"}, {"another kind", `{"apiVersion": "v1", "kind": "Pod"}`},
		{"another version", `{"apiVersion": "extensions/v1beta1", "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "n"}}`},
		{"two documents", "kind: a\n---\nkind: b"}, {"an alias", "metadata: &a {name: p}\nspec: *a"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if p, violations := Parse([]byte(test.manifest)); violations == nil {
				t.Errorf("got %+v", p)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(networkPolicy(`{"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}], "ports": [{"port": "a", "endPort": 5}]}]}`))
	f.Add(networkPolicy(`{"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}, "egress": [{"to": [{"namespaceSelector": {}}]}]}`))
	f.Add([]byte(adminManifest(`{"priority": 5, "subject": {"namespaces": {}}, "egress": [{"action": "Deny", "to": [{"networks": ["10.0.0.0/8"]}]}]}`)))
	f.Fuzz(func(t *testing.T, manifest []byte) {
		p, violations := Parse(manifest)
		if violations != nil {
			return
		}
		if p.Key.Name == "" || p.Tier == 0 {
			t.Errorf("accepted as %+v", p)
		}
		for _, r := range p.Rules {
			if r.Action == 0 || r.Direction == 0 || r.AnyPeer != (len(r.Peers) == 0) || r.AnyPort != (len(r.Ports)+len(r.Named) == 0) {
				t.Errorf("a rule got %+v", r)
			}
		}
	})
}
