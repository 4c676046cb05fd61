package resolve

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/policy"
)

// A part is one way to write a field, and what it means: names of places, or ports.
type part struct {
	name, text string
	// peers are the places that it holds; nil: all.
	peers []string
	// ports are "TCP 80" and, where it depends on the destination, "bank/web TCP 81";
	// nil: all.
	ports []string
}

func (p part) holdsPeer(place string) bool { return p.peers == nil || slices.Contains(p.peers, place) }

func (p part) holdsPort(to string, protocol policy.Protocol, port uint16) bool {
	text := fmt.Sprintf("%s %d", protocol, port)
	return p.ports == nil || slices.Contains(p.ports, text) || slices.Contains(p.ports, to+" "+text)
}

// Each field of a rule of a NetworkPolicy in namespace shop, in each form that it has.
var (
	peerParts = []part{
		{name: "no peers"},
		{name: "podSelector", text: `{"podSelector": {"matchLabels": {"app": "db"}}}`, peers: []string{"shop/db"}},
		{name: "namespaceSelector", text: `{"namespaceSelector": {"matchLabels": {"team": "red"}}}`, peers: []string{"bank/web", "bank/db"}},
		{name: "both selectors", text: `{"namespaceSelector": {"matchLabels": {"team": "red"}}, "podSelector": {"matchLabels": {"app": "db"}}}`, peers: []string{"bank/db"}},
		{name: "ipBlock", text: `{"ipBlock": {"cidr": "192.0.2.0/24"}}`, peers: []string{"outside"}},
		{name: "ipBlock with except", text: `{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.1.0.0/24", "192.0.2.7/32"]}}`, peers: []string{"bank/web", "bank/db", "partner"}},
		{name: "podSelector and ipBlock", text: `{"podSelector": {}}, {"ipBlock": {"cidr": "198.51.100.0/24"}}`, peers: []string{"shop/web", "shop/db", "partner"}},
	}
	portParts = []part{
		{name: "no ports"},
		{name: "an empty port", text: `{}`, ports: []string{"TCP 80", "TCP 81", "TCP 82", "TCP 90"}},
		{name: "protocol", text: `{"protocol": "UDP"}`, ports: []string{"UDP 80", "UDP 81", "UDP 82", "UDP 90"}},
		{name: "port", text: `{"port": 80}`, ports: []string{"TCP 80"}},
		{name: "protocol and port", text: `{"protocol": "SCTP", "port": 81}`, ports: []string{"SCTP 81"}},
		{name: "port and endPort", text: `{"port": 80, "endPort": 82}`, ports: []string{"TCP 80", "TCP 81", "TCP 82"}},
		{name: "protocol, port and endPort", text: `{"protocol": "UDP", "port": 81, "endPort": 90}`, ports: []string{"UDP 81", "UDP 82", "UDP 90"}},
		{name: "name", text: `{"port": "http"}`, ports: []string{"shop/web TCP 80", "bank/web TCP 81"}},
		{name: "protocol and name", text: `{"protocol": "UDP", "port": "http"}`, ports: []string{"bank/web UDP 82"}},
		{name: "name and port", text: `{"port": "sql"}, {"protocol": "UDP", "port": 90}`, ports: []string{"bank/db TCP 81", "UDP 90"}},
	}
	typeParts = []string{"", `["Ingress"]`, `["Egress"]`, `["Ingress", "Egress"]`}
)

// list writes the field, unless there is nothing in it.
func (p part) list(field string) string {
	if p.text == "" {
		return ""
	}
	return fmt.Sprintf(`, %q: [%s]`, field, p.text)
}

// eachQuestion asks about shop/web and every other place, in both directions.
func eachQuestion(ask func(from, to string, protocol policy.Protocol, port uint16)) {
	for other := range places() {
		if other == "shop/web" {
			continue
		}
		for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP} {
			for _, port := range []uint16{80, 81, 82, 90} {
				ask(other, "shop/web", protocol, port)
				ask("shop/web", other, protocol, port)
			}
		}
	}
}

// wantAllowed compares what is resolved with what should be.
func wantAllowed(t *testing.T, manifests []string, allowed func(from, to string, protocol policy.Protocol, port uint16) bool) {
	t.Helper()
	r, v := cluster(), newView()
	set(t, r, manifests...)
	v.follow(r.Drain())
	all := places()
	eachQuestion(func(from, to string, protocol policy.Protocol, port uint16) {
		if got, want := v.may(all[from], all[to], protocol, port), allowed(from, to, protocol, port); got != want {
			t.Errorf("%s to %s by %s %d: got %v, want %v, of %s", from, to, protocol, port, got, want, manifests)
		}
	})
}

// TestEveryCombinationOfFields has a case for each form of each field with each of every
// other.
func TestEveryCombinationOfFields(t *testing.T) {
	for _, types := range typeParts {
		for _, direction := range []string{"ingress", "egress"} {
			peers := map[string]string{"ingress": "from", "egress": "to"}[direction]
			for _, peer := range peerParts {
				for _, port := range portParts {
					name := fmt.Sprintf("policyTypes %s/%s/%s/%s", types, direction, peer.name, port.name)
					t.Run(name, func(t *testing.T) {
						rule := strings.TrimPrefix(peer.list(peers)+port.list("ports"), ", ")
						spec := fmt.Sprintf(`{"podSelector": {"matchLabels": {"app": "web"}}, %q: [{%s}]`, direction, rule)
						if types != "" {
							spec += `, "policyTypes": ` + types
						}
						isolates := func(d string) bool {
							if types == "" {
								return d == "ingress" || direction == "egress"
							}
							return strings.Contains(strings.ToLower(types), d)
						}
						wantAllowed(t, []string{networkPolicy("p", spec+"}")}, func(from, to string, protocol policy.Protocol, number uint16) bool {
							d, other := "ingress", from
							if from == "shop/web" {
								d, other = "egress", to
							}
							return !isolates(d) || d == direction && peer.holdsPeer(other) && port.holdsPort(to, protocol, number)
						})
					})
				}
			}
		}
	}
}

// Each field of a rule of the policies of administrators.
var (
	adminPeerParts = []part{
		{name: "namespaces", text: `{"namespaces": {"matchLabels": {"team": "red"}}}`, peers: []string{"bank/web", "bank/db"}},
		{name: "pods", text: `{"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}}`, peers: []string{"shop/db", "bank/db"}},
		{name: "networks", text: `{"networks": ["192.0.2.0/24", "10.1.1.1/32"]}`, peers: []string{"outside", "bank/web"}},
	}
	// The texts are of v1alpha1, and of v1alpha2 behind the bar.
	adminPortParts = []part{
		{name: "no ports"},
		{name: "number", text: `{"portNumber": {"protocol": "TCP", "port": 81}}|{"tcp": {"destinationPort": {"number": 81}}}`, ports: []string{"TCP 81"}},
		{name: "range", text: `{"portRange": {"protocol": "SCTP", "start": 80, "end": 82}}|{"sctp": {"destinationPort": {"range": {"start": 80, "end": 82}}}}`,
			ports: []string{"SCTP 80", "SCTP 81", "SCTP 82"}},
		{name: "name", text: `{"namedPort": "http"}|{"destinationNamedPort": "http"}`, ports: []string{"shop/web TCP 80", "bank/web TCP 81", "bank/web UDP 82"}},
	}
	adminSubjects = []part{
		{name: "namespaces", text: `{"namespaces": {"matchLabels": {"team": "blue"}}}`, peers: []string{"shop/web", "shop/db"}},
		{name: "pods", text: `{"pods": {"namespaceSelector": {"matchLabels": {"team": "blue"}}, "podSelector": {"matchLabels": {"app": "web"}}}}`, peers: []string{"shop/web"}},
	}
	adminKinds = []string{"AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy Admin", "ClusterNetworkPolicy Baseline"}
)

// combination is a policy of an administrator of one rule, with or without a NetworkPolicy
// that closes shop/web.
type combination struct {
	kind, direction, action string
	subject, peer, port     part
	closed                  bool
}

func (c combination) name() string {
	return fmt.Sprintf("%s/%s/%s/subject %s/%s/%s/closed %t", c.kind, c.action, c.direction, c.subject.name, c.peer.name, c.port.name, c.closed)
}

// refused says which combinations are none: the Baseline policy of v1alpha1 has nobody to
// pass to, sources are not told by networks, and what is no pod has no names of ports.
func (c combination) refused() bool {
	return c.kind == "BaselineAdminNetworkPolicy" && c.action == "Pass" ||
		c.peer.name == "networks" && (c.direction == "ingress" || c.port.name == "name")
}

func combinations() (all []combination) {
	for _, kind := range adminKinds {
		for _, direction := range []string{"ingress", "egress"} {
			for _, action := range []string{"Allow", "Deny", "Pass"} {
				for _, subject := range adminSubjects {
					for _, peer := range adminPeerParts {
						for _, port := range adminPortParts {
							c := combination{kind, direction, action, subject, peer, port, false}
							all = append(all, c)
							c.closed = true
							all = append(all, c)
						}
					}
				}
			}
		}
	}
	return slices.DeleteFunc(all, combination.refused)
}

// manifest writes the policy.
func (c combination) manifest() string {
	peers := map[string]string{"ingress": "from", "egress": "to"}[c.direction]
	port := c.port
	old, young, _ := strings.Cut(port.text, "|")
	rule := fmt.Sprintf(`"subject": %s, %q: [{"action": %q%s`, c.subject.text, c.direction, c.action, c.peer.list(peers))
	if tier, is := strings.CutPrefix(c.kind, "ClusterNetworkPolicy "); is {
		port.text = young
		return fmt.Sprintf(`{"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": {"name": "c"}, "spec": {"tier": %q, "priority": 5, %s%s}]}}`,
			tier, strings.Replace(rule, `"Allow"`, `"Accept"`, 1), port.list("protocols"))
	}
	port.text = old
	rule += port.list("ports") + "}]"
	if c.kind == "BaselineAdminNetworkPolicy" {
		return baselinePolicy(rule)
	}
	return adminPolicy("a", 5, rule)
}

// side says what one end says of a connection.
func (c combination) side(pod, direction, other, to string, protocol policy.Protocol, port uint16) bool {
	closed := c.closed && pod == "shop/web"
	matches := c.subject.holdsPeer(pod) && direction == c.direction && c.peer.holdsPeer(other) && c.port.holdsPort(to, protocol, port)
	if matches && c.action != "Pass" && (!closed || !strings.Contains(c.kind, "Baseline")) {
		return c.action == "Allow"
	}
	return !closed
}

// TestEveryCombinationOfFieldsOfAdministrators does the same for the tiers.
func TestEveryCombinationOfFieldsOfAdministrators(t *testing.T) {
	closing := networkPolicy("p", `{"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress", "Egress"]}`)
	for _, c := range combinations() {
		t.Run(c.name(), func(t *testing.T) {
			manifests := []string{c.manifest()}
			if c.closed {
				manifests = append(manifests, closing)
			}
			wantAllowed(t, manifests, func(from, to string, protocol policy.Protocol, port uint16) bool {
				return c.side(from, "egress", to, to, protocol, port) && c.side(to, "ingress", from, to, protocol, port)
			})
		})
	}
}
