package policyflow

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// copying are the owners whose flows make copies.
func copying(b *Book) []string {
	var owners []string
	for _, owner := range b.Owners() {
		if slices.ContainsFunc(b.Flows(owner), openflow.Flow.Copies) {
			owners = append(owners, owner)
		}
	}
	return slices.Compact(owners)
}

func TestOnlyWhatANamespaceAsksForIsTold(t *testing.T) {
	b := NewInPipeline()
	web := policy.Key{Kind: "NetworkPolicy", Namespace: "red", Name: "web"}
	other := policy.Key{Kind: "NetworkPolicy", Namespace: "blue", Name: "web"}
	admin := policy.Key{Kind: "AdminNetworkPolicy", Name: "all"}
	rule := func(a policy.Action) policy.Rule {
		return policy.Rule{Direction: policy.Ingress, Action: a, AnyPeer: true, Ports: []policy.PortRange{{Protocol: policy.TCP, First: 80, Last: 80}}}
	}
	for _, p := range []policy.Policy{
		{Key: web, Tier: policy.Namespace, Ingress: true, Rules: []policy.Rule{rule(policy.Allow)}},
		{Key: other, Tier: policy.Namespace, Ingress: true, Rules: []policy.Rule{rule(policy.Allow)}},
		{Key: admin, Tier: policy.Admin, Rules: []policy.Rule{rule(policy.Deny), rule(policy.Allow), rule(policy.Pass)}},
	} {
		if err := b.SetPolicy(p); err != nil {
			t.Fatal(err)
		}
	}
	b.SetPod(policy.Pod{Namespace: "red", Name: "a", Addresses: []netip.Addr{netip.MustParseAddr("10.128.0.2")}, Policies: []policy.Key{web, admin}})
	b.SetPod(policy.Pod{Namespace: "blue", Name: "a", Addresses: []netip.Addr{netip.MustParseAddr("10.128.0.3")}, Policies: []policy.Key{other, admin}})
	b.DrainOwners()
	for _, c := range []struct {
		asks Logging
		want []string
	}{
		{Logging{}, nil},
		{Logging{Denied: true}, []string{"AdminNetworkPolicy all rule 0", "policy isolation red/a"}},
		{Logging{Allowed: true}, []string{"AdminNetworkPolicy all rule 1", "NetworkPolicy red/web rule 0"}},
		{Logging{true, true}, []string{"AdminNetworkPolicy all rule 0", "AdminNetworkPolicy all rule 1", "NetworkPolicy red/web rule 0", "policy isolation red/a"}},
		{Logging{}, nil},
	} {
		before := copying(b)
		b.SetLogging("red", c.asks)
		if got := copying(b); !slices.Equal(got, c.want) {
			t.Errorf("%+v: told by %q, want %q", c.asks, got, c.want)
		}
		drained := b.DrainOwners()
		for _, owner := range slices.Concat(before, c.want) {
			if slices.Contains(before, owner) != slices.Contains(c.want, owner) && !slices.Contains(drained, owner) {
				t.Errorf("%+v: %s is not among what differs, %q", c.asks, owner, drained)
			}
		}
		b.SetLogging("red", c.asks)
		if again := b.DrainOwners(); len(again) != 0 {
			t.Errorf("%+v once more: %q differ", c.asks, again)
		}
	}
	b.SetLogging("red", Logging{true, true})
	for _, owner := range copying(b) {
		for _, f := range b.Flows(owner) {
			if f.Copies() && strings.Contains(f.String(), "reg4=0x1") {
				t.Errorf("%s: a packet in the middle of a connection is told: %s", owner, f)
			}
		}
	}
	for owner, want := range map[string]Decision{
		"AdminNetworkPolicy all rule 0": {admin, 0, policy.Ingress, false},
		"AdminNetworkPolicy all rule 1": {admin, 1, policy.Ingress, true},
		"NetworkPolicy red/web rule 0":  {web, 0, policy.Ingress, true},
		"policy isolation red/a":        {Direction: policy.Ingress},
	} {
		got, decides := b.DecisionOf(owner, b.layout.Ingress.Policies)
		if !decides || got != want || !slices.Contains(b.Deciding(), owner) || !b.Logs("red", got) || b.Logs("blue", got) {
			t.Errorf("%s decides %+v (%t), want %+v", owner, got, decides, want)
		}
	}
	for _, owner := range []string{"AdminNetworkPolicy all rule 2", "policy address 10.128.0.2", ""} {
		if got, decides := b.DecisionOf(owner, b.layout.Ingress.Admin); decides {
			t.Errorf("%q decides %+v", owner, got)
		}
	}
}
