package outside

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// stored are slices as the follower has them.
type stored map[string]*servicelbv1.EndpointSlice

func (s stored) Get(name string) (*servicelbv1.EndpointSlice, bool) {
	slice, exists := s[name]
	return slice, exists
}
func (s stored) Snapshot() map[string]*servicelbv1.EndpointSlice { return maps.Clone(s) }
func (s stored) Synced(context.Context) error                    { return nil }
func (s stored) Cached() bool                                    { return true }

// TestEndpointsAreWithheldThatTheirOwnNamespaceMayNotReach changes slices, rules and nodes, and
// looks at what the engine would be told.
func TestEndpointsAreWithheldThatTheirOwnNamespaceMayNotReach(t *testing.T) {
	state := complete(t)
	state.FollowFirewalls()
	if _, err := state.SetHostSubnet(&ipamv1.HostSubnet{Name: "infra", HostIps: []string{"192.0.2.13"}, Subnets: []string{"10.129.0.0/23"}}); err != nil {
		t.Fatal(err)
	}
	followed, wanted, changed := stored{}, map[string]bool{}, map[string]bool{}
	resolved, woken := make(chan struct{}), make(chan struct{})
	j := NewSlices(t.Context(), Config{
		State: state, HostIP: netip.MustParseAddr("192.0.2.11"), Patience: time.Minute,
		Want:    func(namespaces map[string]bool) { wanted = namespaces },
		Resolve: func(context.Context, []string) { <-resolved },
		Changed: func(name string, _ uint64) { changed[name] = true },
		Wake:    func() { close(woken) },
	})
	j.Follow(followed)
	const pod, outside, other, node = "10.131.0.7", "203.0.113.8", "203.0.113.9", "192.0.2.13"
	put := func(name string, addresses ...string) {
		namespace, _, _ := strings.Cut(name, "/")
		s := slice()
		s.Namespace, s.Endpoints = namespace, nil
		for _, a := range addresses {
			s.Endpoints = append(s.Endpoints, &servicelbv1.Endpoint{Addresses: []string{a}})
		}
		followed[name] = s
		j.SliceChanged(name, s)
	}
	revision := uint64(0)
	firewall := func(namespace string, denied ...string) {
		t.Helper()
		var rules []*egressv1.EgressRule
		for _, cidr := range denied {
			rules = append(rules, &egressv1.EgressRule{Type: egressv1.RuleType_RULE_TYPE_DENY, CidrSelector: cidr})
		}
		revision++
		if _, err := state.SetFirewall(namespace, revision, []*egressv1.EgressNetworkPolicy{{Namespace: namespace, Name: "a", Rules: rules}}); err != nil {
			t.Fatal(err)
		}
		j.Again(namespace)
	}
	for _, step := range []struct {
		name   string
		change func()
		want   string // what is left of red/s and blue/s, "|" between them
		wanted string // whose firewalls are followed
		again  string // which are programmed anew
	}{
		{"pods alone", func() { put("red/s", pod) }, pod + "|", "", ""},
		{"a rule that nobody knows", func() { put("red/s", pod, outside) }, pod + "|", "red", ""},
		{"no rule", func() { firewall("red") }, pod + " " + outside + "|", "red", "red/s"},
		{"a rule for another", func() { firewall("red", other+"/32") }, pod + " " + outside + "|", "red", "red/s"},
		{"a second, which is denied", func() { put("red/s", pod, outside, other) }, pod + " " + outside + "|", "red", ""},
		{"all are denied", func() { firewall("red", "0.0.0.0/0") }, pod + "|", "red", "red/s"},
		{"another namespace's", func() { firewall("blue"); put("blue/s", other) }, pod + "|" + other, "blue red", ""},
		{"a node's is not outside", func() { put("red/s", node, j.cfg.HostIP.String()) }, node + " " + j.cfg.HostIP.String() + "|" + other, "blue", ""},
		{"unless the node goes", func() { state.DeleteHostSubnet("infra"); j.NodesChanged() }, j.cfg.HostIP.String() + "|" + other, "blue red", "blue/s red/s"},
		{"one that goes", func() { delete(followed, "red/s"); j.SliceChanged("red/s", nil) }, "|" + other, "blue", ""},
	} {
		clear(changed)
		step.change()
		var left []string
		for _, name := range []string{"red/s", "blue/s"} {
			s, exists := j.Get(name)
			if all := j.Snapshot(); exists && !slices.EqualFunc(all[name].GetEndpoints(), s.GetEndpoints(), func(a, b *servicelbv1.Endpoint) bool { return a.String() == b.String() }) {
				t.Errorf("%s: the snapshot has %v, and Get answers %v", step.name, all[name], s)
			}
			var addresses []string
			for _, e := range s.GetEndpoints() {
				addresses = append(addresses, e.GetAddresses()...)
			}
			left = append(left, strings.Join(addresses, " "))
		}
		got := fmt.Sprintf("%s, followed %s, again %s", strings.Join(left, "|"), keys(wanted), keys(changed))
		if want := fmt.Sprintf("%s, followed %s, again %s", step.want, step.wanted, step.again); got != want {
			t.Errorf("%s: left are %s; want %s", step.name, got, want)
		}
	}
	if j.Settled() {
		t.Error("it is settled before anything is known")
	}
	close(resolved)
	<-woken
	if !j.Settled() {
		t.Error("it is not settled after that")
	}
}

func keys(m map[string]bool) string { return strings.Join(slices.Sorted(maps.Keys(m)), " ") }
