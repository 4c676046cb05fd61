package resolve

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/tenancy/group"
	"github.com/damask-sdn/damask/services/tenancy/policyspec"
)

// places are who can speak to whom in the tests: pods, and addresses outside of
// the cluster.
func places() map[string]netip.Addr {
	places := map[string]netip.Addr{}
	for name, address := range map[string]string{"shop/web": "10.1.0.1", "shop/db": "10.1.0.2", "bank/web": "10.1.1.1", "bank/db": "10.1.1.2",
		"outside": "192.0.2.7", "partner": "198.51.100.7"} {
		places[name] = netip.MustParseAddr(address)
	}
	return places
}

// cluster is shop and bank, each with web and db.
func cluster() *Resolver {
	r := New()
	r.SetNamespace("shop", map[string]string{"team": "blue"})
	r.SetNamespace("bank", map[string]string{"team": "red"})
	for name, a := range places() {
		namespace, pod, isPod := strings.Cut(name, "/")
		if !isPod {
			continue
		}
		p := group.Pod{Namespace: namespace, Name: pod, Addresses: []netip.Addr{a}, Labels: map[string]string{"app": pod}}
		switch name {
		case "shop/web":
			p.Ports = []policy.NamedPort{{Name: "http", Protocol: policy.TCP, Port: 80}}
		case "bank/web":
			p.Ports = []policy.NamedPort{{Name: "http", Protocol: policy.TCP, Port: 81}, {Name: "http", Protocol: policy.UDP, Port: 82}}
		case "bank/db":
			p.Ports = []policy.NamedPort{{Name: "sql", Protocol: policy.TCP, Port: 81}}
		}
		r.SetPod(p)
	}
	return r
}

// view is what a follower of everything has.
type view struct {
	groups   policy.Groups
	policies map[policy.Key]*policy.Policy
	pods     map[group.PodKey]*policy.Pod
}

func newView() *view {
	return &view{policy.Groups{}, map[policy.Key]*policy.Policy{}, map[group.PodKey]*policy.Pod{}}
}

// follow applies changes, as a follower would that sees nothing else.
func (v *view) follow(c Changes) {
	for _, g := range c.Groups {
		if g.Gone {
			delete(v.groups, g.ID)
			continue
		}
		if g.Whole {
			v.groups[g.ID] = map[policy.Member]struct{}{}
		}
		for _, m := range g.Added {
			v.groups[g.ID][m] = struct{}{}
		}
		for _, m := range g.Removed {
			delete(v.groups[g.ID], m)
		}
	}
	for i := range c.Policies {
		v.policies[c.Policies[i].Key] = &c.Policies[i]
	}
	for i, p := range c.Pods {
		v.pods[group.PodKey{Namespace: p.Namespace, Name: p.Name}] = &c.Pods[i]
	}
	for _, key := range c.GonePods {
		delete(v.pods, key)
	}
	for _, key := range c.GonePolicies {
		delete(v.policies, key)
	}
}

// may reports whether a connection may be, by both sides.
func (v *view) may(from, to netip.Addr, protocol policy.Protocol, port uint16) bool {
	allowed := true
	for _, p := range v.pods {
		var applied []*policy.Policy
		for _, key := range p.Policies {
			applied = append(applied, v.policies[key])
		}
		t := policy.Traffic{Pod: p, Protocol: protocol, Port: port}
		if slices.Contains(p.Addresses, from) {
			t.Direction, t.Peer = policy.Egress, to
			allowed = allowed && policy.Decide(t, applied, v.groups).Allowed
		}
		if slices.Contains(p.Addresses, to) {
			t.Direction, t.Peer = policy.Ingress, from
			allowed = allowed && policy.Decide(t, applied, v.groups).Allowed
		}
	}
	return allowed
}

func networkPolicy(name, spec string) string {
	return fmt.Sprintf(`{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": %q, "namespace": "shop"}, "spec": %s}`, name, spec)
}

func adminPolicy(name string, priority int, spec string) string {
	return fmt.Sprintf(`{"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy", "metadata": {"name": %q},
		"spec": {"priority": %d, %s}}`, name, priority, spec)
}

func baselinePolicy(spec string) string {
	return `{"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "BaselineAdminNetworkPolicy", "metadata": {"name": "default"}, "spec": {` + spec + `}}`
}

func set(t testing.TB, r *Resolver, manifests ...string) {
	t.Helper()
	for _, m := range manifests {
		p, violations := policyspec.Parse([]byte(m))
		if violations != nil {
			t.Fatalf("%s: %v", m, violations)
		}
		r.SetPolicy(p)
	}
}

// connections answers who may connect to, or from, a place at TCP port 80,
// without itself.
func connections(v *view, place string, d policy.Direction) string {
	var names []string
	all := places()
	for _, other := range slices.Sorted(maps.Keys(all)) {
		from, to := all[other], all[place]
		if d == policy.Egress {
			from, to = to, from
		}
		if other != place && v.may(from, to, policy.TCP, 80) {
			names = append(names, other)
		}
	}
	return strings.Join(names, " ")
}

func TestWhoMayConnect(t *testing.T) {
	const everybody, nobody = "bank/db bank/web outside partner shop/db", ""
	ingress := func(rules string) string {
		return networkPolicy("p", `{"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [`+rules+`]}`)
	}
	egress := func(rules string) string {
		return networkPolicy("p", `{"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"], "egress": [`+rules+`]}`)
	}
	denyAll := networkPolicy("deny", `{"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}`)
	tests := []struct {
		name      string
		manifests []string
		in, out   string // Who may connect to shop/web, and to whom it may.
	}{
		{"no policy: everybody", nil, everybody, everybody},
		{"a policy of another pod: everybody", []string{networkPolicy("p", `{"podSelector": {"matchLabels": {"app": "x"}}}`)}, everybody, everybody},
		{"no rules close a direction", []string{ingress("")}, nobody, everybody},
		{"no rules close egress alone", []string{egress("")}, everybody, nobody},
		{"an empty rule opens", []string{ingress("{}")}, everybody, everybody},
		{"an empty podSelector is its own namespace", []string{ingress(`{"from": [{"podSelector": {}}]}`)}, "shop/db", everybody},
		{"an empty podSelector for egress", []string{egress(`{"to": [{"podSelector": {}}]}`)}, everybody, "shop/db"},
		{"an empty namespaceSelector is all pods and nobody from outside", []string{ingress(`{"from": [{"namespaceSelector": {}}]}`)},
			"bank/db bank/web shop/db", everybody},
		{"an empty namespaceSelector for egress", []string{egress(`{"to": [{"namespaceSelector": {}}]}`)}, everybody, "bank/db bank/web shop/db"},
		{"a namespace by label", []string{ingress(`{"from": [{"namespaceSelector": {"matchLabels": {"team": "red"}}}]}`)}, "bank/db bank/web", everybody},
		{"a namespace by the label it has by itself", []string{ingress(`{"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "bank"}}}]}`)},
			"bank/db bank/web", everybody},
		{"both selectors in one peer", []string{ingress(`{"from": [{"namespaceSelector": {"matchLabels": {"team": "red"}}, "podSelector": {"matchLabels": {"app": "db"}}}]}`)},
			"bank/db", everybody},
		{"two peers add up", []string{ingress(`{"from": [{"namespaceSelector": {"matchLabels": {"team": "red"}}}, {"podSelector": {"matchLabels": {"app": "db"}}}]}`)},
			"bank/db bank/web shop/db", everybody},
		{"a block", []string{ingress(`{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}`)}, "outside", everybody},
		{"a block of everything holds pods too", []string{egress(`{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}`)}, everybody, everybody},
		{"a block with exceptions", []string{egress(`{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "192.0.2.7/32"]}}]}`)}, everybody, "partner"},
		{"an exception is of its own block alone", []string{egress(`{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}, {"ipBlock": {"cidr": "10.1.1.0/24"}}]}`)},
			everybody, "bank/db bank/web outside partner"},
		{"a block of IPv6 lets in nobody", []string{ingress(`{"from": [{"ipBlock": {"cidr": "::/0"}}]}`)}, nobody, everybody},
		{"another port", []string{ingress(`{"ports": [{"port": 81}]}`)}, nobody, everybody},
		{"the port", []string{ingress(`{"ports": [{"port": 80}]}`)}, everybody, everybody},
		{"another protocol", []string{ingress(`{"ports": [{"port": 80, "protocol": "SCTP"}]}`)}, nobody, everybody},
		{"a protocol alone", []string{ingress(`{"ports": [{"protocol": "TCP"}]}`)}, everybody, everybody},
		{"a range", []string{ingress(`{"ports": [{"port": 79, "endPort": 81}]}`)}, everybody, everybody},
		{"a range besides", []string{ingress(`{"ports": [{"port": 81, "endPort": 90}]}`)}, nobody, everybody},
		{"port and peer must both hold", []string{ingress(`{"from": [{"podSelector": {}}], "ports": [{"port": 81}]}, {"from": [{"namespaceSelector": {}}], "ports": [{"port": 80}]}`)},
			"bank/db bank/web shop/db", everybody},
		{"a named port is the destination's", []string{ingress(`{"ports": [{"port": "http"}]}`)}, everybody, everybody},
		{"a name that the destination does not have", []string{ingress(`{"ports": [{"port": "sql"}]}`)}, nobody, everybody},
		{"a name of another protocol", []string{ingress(`{"ports": [{"port": "http", "protocol": "UDP"}]}`)}, nobody, everybody},
		{"for egress a name means what it means at each destination: 81 at bank/web", []string{egress(`{"ports": [{"port": "http"}]}`)}, everybody, nobody},
		{"a policy that isolates one direction leaves the other", []string{ingress(`{"from": [{"podSelector": {}}]}`)}, "shop/db", everybody},
		{"policies add up", []string{denyAll, ingress(`{"from": [{"podSelector": {}}]}`),
			networkPolicy("q", `{"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]}`)}, "outside", nobody},

		{"an administrator denies what a policy allows", []string{ingress("{}"), adminPolicy("a", 1,
			`"subject": {"namespaces": {}}, "ingress": [{"action": "Deny", "from": [{"namespaces": {"matchLabels": {"team": "red"}}}]}]`)}, "outside partner shop/db", everybody},
		{"an administrator allows what a policy does not", []string{ingress(""), adminPolicy("a", 1,
			`"subject": {"namespaces": {}}, "ingress": [{"action": "Allow", "from": [{"namespaces": {"matchLabels": {"team": "red"}}}]}]`)}, "bank/db bank/web", everybody},
		{"pass asks the policies, behind it nothing of the administrator", []string{ingress(`{"from": [{"podSelector": {}}]}`), adminPolicy("a", 1,
			`"subject": {"namespaces": {}}, "ingress": [{"action": "Pass", "from": [{"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}}]},
			{"action": "Deny", "from": [{"namespaces": {}}]}]`)}, "shop/db", "outside partner"},
		{"the lower priority is asked first", []string{
			adminPolicy("a", 2, `"subject": {"namespaces": {}}, "egress": [{"action": "Deny", "to": [{"networks": ["0.0.0.0/0"]}]}]`),
			adminPolicy("b", 1, `"subject": {"namespaces": {}}, "egress": [{"action": "Allow", "to": [{"networks": ["192.0.2.0/24"]}]}]`)}, "outside partner", "outside"},
		{"of equal priorities the name decides", []string{
			adminPolicy("b", 1, `"subject": {"namespaces": {}}, "egress": [{"action": "Deny", "to": [{"networks": ["0.0.0.0/0"]}]}]`),
			adminPolicy("a", 1, `"subject": {"namespaces": {}}, "egress": [{"action": "Allow", "to": [{"networks": ["192.0.2.0/24"]}]}]`)}, "outside partner", "outside"},
		{"the baseline holds where no policy isolates", []string{baselinePolicy(
			`"subject": {"namespaces": {}}, "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]`)}, "outside partner", "outside partner"},
		{"a policy overrides the baseline", []string{ingress(`{"from": [{"podSelector": {}}]}`), baselinePolicy(
			`"subject": {"namespaces": {"matchLabels": {"team": "blue"}}}, "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]`)}, "shop/db", "bank/db bank/web outside partner"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, v := cluster(), newView()
			set(t, r, test.manifests...)
			v.follow(r.Drain())
			in, out := connections(v, "shop/web", policy.Ingress), connections(v, "shop/web", policy.Egress)
			if in != test.in {
				t.Errorf("who may connect to shop/web: got %q, want %q", in, test.in)
			}
			if out != test.out {
				t.Errorf("to whom may shop/web connect: got %q, want %q", out, test.out)
			}
		})
	}
}

func TestANamedPortForEgressIsEachDestinationsOwn(t *testing.T) {
	tests := []struct{ name, peers, want string }{
		{"everybody who has it", ``, "bank/web:81 shop/web:80"},
		{"of selected pods", `"to": [{"namespaceSelector": {"matchLabels": {"team": "red"}}}],`, "bank/web:81"},
		{"of pods in a block", `"to": [{"ipBlock": {"cidr": "10.1.0.0/24"}}],`, "shop/web:80"},
		{"of pods in a block less some", `"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/24"]}}],`, "bank/web:81"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, v := cluster(), newView()
			set(t, r, networkPolicy("p", `{"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Egress"],
				"egress": [{`+test.peers+` "ports": [{"port": "http"}]}]}`))
			v.follow(r.Drain())
			var got []string
			all := places()
			for _, to := range slices.Sorted(maps.Keys(all)) {
				for _, port := range []uint16{0, 80, 81, 82} {
					if to != "shop/db" && v.may(all["shop/db"], all[to], policy.TCP, port) {
						got = append(got, fmt.Sprintf("%s:%d", to, port))
					}
				}
			}
			if text := strings.Join(got, " "); text != test.want {
				t.Errorf("got %q, want %q", text, test.want)
			}
		})
	}
}
