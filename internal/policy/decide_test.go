package policy

import (
	"net/netip"
	"slices"
	"testing"
)

var (
	peer  = netip.MustParseAddr("10.1.0.9")
	group = Groups{"g": {Member{Addr: peer}: {}}, "http": {Member{Addr: peer, Port: 80}: {}}}
)

// tiered is a policy of a tier, with rules for ingress.
func tiered(name string, tier Tier, priority int32, rules ...Rule) *Policy {
	for i := range rules {
		rules[i].Direction = Ingress
	}
	return &Policy{Key: Key{Kind: "K", Name: name}, Tier: tier, Priority: priority, Ingress: tier == Namespace, Rules: rules}
}

func TestWhoDecidesAndByWhichRule(t *testing.T) {
	anything := func(a Action) Rule { return Rule{Action: a, AnyPeer: true, AnyPort: true} }
	fromGroup := func(a Action) Rule { return Rule{Action: a, Peers: []Peer{{Group: "g"}}, AnyPort: true} }
	nothing := Rule{Action: Deny}
	key := func(name string) Key { return Key{Kind: "K", Name: name} }
	tests := []struct {
		name     string
		policies []*Policy
		want     Verdict
	}{
		{"nobody: allowed", nil, Verdict{Allowed: true, Rule: -1}},
		{"a rule that nobody filled in matches nothing", []*Policy{tiered("a", Admin, 1, nothing)}, Verdict{Allowed: true, Rule: -1}},
		{"isolated, and no rule: the first policy is named", []*Policy{tiered("b", Namespace, 0), tiered("a", Namespace, 0)}, Verdict{By: key("a"), Rule: -1}},
		{"isolated, and the second policy allows", []*Policy{tiered("a", Namespace, 0), tiered("b", Namespace, 0, nothing, fromGroup(Allow))},
			Verdict{Allowed: true, By: key("b"), Rule: 1}},
		{"the administrator's first matching rule", []*Policy{tiered("a", Admin, 1, nothing, fromGroup(Deny), anything(Allow))}, Verdict{By: key("a"), Rule: 1}},
		{"the administrator's lowest priority", []*Policy{tiered("a", Admin, 2, anything(Allow)), tiered("b", Admin, 1, anything(Deny))}, Verdict{By: key("b")}},
		{"pass leads to the next tier", []*Policy{tiered("a", Admin, 1, anything(Pass), anything(Deny)), tiered("b", Namespace, 0, anything(Allow))},
			Verdict{Allowed: true, By: key("b")}},
		{"isolation keeps the baseline out", []*Policy{tiered("a", Baseline, 0, anything(Allow)), tiered("b", Namespace, 0)}, Verdict{By: key("b"), Rule: -1}},
		{"the baseline is last", []*Policy{tiered("a", Baseline, 0, anything(Deny))}, Verdict{By: key("a")}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			traffic := Traffic{Direction: Ingress, Pod: &Pod{}, Peer: peer, Protocol: TCP, Port: 80}
			if got := Decide(traffic, test.policies, group); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			slices.Reverse(test.policies)
			if got := Decide(traffic, test.policies, group); got != test.want {
				t.Errorf("in another order got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestWhatARuleMatches(t *testing.T) {
	pod := &Pod{Ports: []NamedPort{{"http", TCP, 80}, {"dns", UDP, 53}}}
	tcp80 := Traffic{Direction: Ingress, Pod: pod, Peer: peer, Protocol: TCP, Port: 80}
	egress := tcp80
	egress.Direction = Egress
	icmp := Traffic{Direction: Ingress, Pod: pod, Peer: peer, Protocol: 1}
	block := Block{CIDR: netip.MustParsePrefix("10.0.0.0/8"), Except: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}}
	tests := []struct {
		name    string
		rule    Rule
		traffic Traffic
		want    bool
	}{
		{"another direction", Rule{Direction: Egress, AnyPeer: true, AnyPort: true}, tcp80, false},
		{"a peer in a group", Rule{Peers: []Peer{{Group: "g"}}, AnyPort: true}, tcp80, true},
		{"a group that is not there", Rule{Peers: []Peer{{Group: "h"}}, AnyPort: true}, tcp80, false},
		{"a peer that is left out of a block", Rule{Peers: []Peer{{Block: block}}, AnyPort: true}, tcp80, false},
		{"one peer of two", Rule{Peers: []Peer{{Block: block}, {Group: "g"}}, AnyPort: true}, tcp80, true},
		{"the first port of a range", Rule{AnyPeer: true, Ports: []PortRange{{TCP, 80, 90}}}, tcp80, true},
		{"the last port of a range", Rule{AnyPeer: true, Ports: []PortRange{{TCP, 70, 80}}}, tcp80, true},
		{"behind the range", Rule{AnyPeer: true, Ports: []PortRange{{TCP, 70, 79}}}, tcp80, false},
		{"the port of another protocol", Rule{AnyPeer: true, Ports: []PortRange{{UDP, 80, 80}}}, tcp80, false},
		{"all of a protocol", Rule{AnyPeer: true, Ports: []PortRange{{TCP, 0, 0}}}, tcp80, true},
		{"a named port", Rule{AnyPeer: true, Named: []PortName{{TCP, "http"}}}, tcp80, true},
		{"a named port of another protocol", Rule{AnyPeer: true, Named: []PortName{{UDP, "http"}}}, tcp80, false},
		{"another named port", Rule{AnyPeer: true, Named: []PortName{{UDP, "dns"}}}, tcp80, false},
		{"ICMP by a rule without ports", Rule{AnyPeer: true, AnyPort: true}, icmp, true},
		{"ICMP by a rule with ports", Rule{AnyPeer: true, Ports: []PortRange{{TCP, 0, 0}}}, icmp, false},
		{"an endpoint", Rule{Direction: Egress, Endpoints: []Endpoints{{Group: "http", Protocol: TCP}}}, egress, true},
		{"an endpoint of another protocol", Rule{Direction: Egress, Endpoints: []Endpoints{{Group: "http", Protocol: UDP}}}, egress, false},
		{"an endpoint out of the block", Rule{Direction: Egress, Endpoints: []Endpoints{{Group: "http", Protocol: TCP, Within: block}}}, egress, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.rule.Direction == 0 {
				test.rule.Direction = Ingress
			}
			if got := test.rule.Matches(test.traffic, group); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
