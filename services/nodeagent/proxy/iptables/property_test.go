package iptables

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

func testNode() proxy.Node {
	return proxy.Node{ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")}}
}

// pretendEngine is an engine on a kernel in memory. Parts are small, so that they split.
func pretendEngine(k *pretend) *Engine {
	return &Engine{node: testNode(), compiler: compiler{testNode()}, kernel: k, command: k, partChains: 3, randomFully: true}
}

// drawService makes one of six services that never claim the same. UDP is left out: the
// real kernel's connection tracking belongs to the contract test.
func drawService(t *rapid.T) proxy.Service {
	n := rapid.IntRange(0, 5).Draw(t, "service")
	backends := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) proxy.Backend {
		return proxy.Backend{Addr: netip.AddrFrom4([4]byte{10, 130, 0, byte(rapid.IntRange(1, 4).Draw(t, "address"))}), Port: 8080}
	}), 0, 4)
	address := func(kind byte) []netip.Addr {
		var all []netip.Addr
		for i := range rapid.IntRange(0, 2).Draw(t, "addresses") {
			all = append(all, netip.AddrFrom4([4]byte{172, 30, kind, byte(2*n + i + 1)}))
		}
		return all
	}
	s := proxy.Service{
		Key:             proxy.Key{Namespace: "shop", Name: fmt.Sprintf("s%d", n), Protocol: []proxy.Protocol{proxy.TCP, proxy.SCTP}[n%2]},
		ClusterIPs:      address(1),
		ExternalIPs:     address(2),
		LoadBalancerIPs: address(3),
		Port:            uint16(rapid.IntRange(80, 81).Draw(t, "port")),
		InternalLocal:   rapid.Bool().Draw(t, "internal local"),
		ExternalLocal:   rapid.Bool().Draw(t, "external local"),
		Affinity:        time.Duration(rapid.IntRange(0, 1).Draw(t, "affinity")) * time.Hour,
		ClusterBackends: backends.Draw(t, "backends"),
	}
	s.ExternalBackends = s.ClusterBackends
	if rapid.Bool().Draw(t, "other backends outside") {
		s.ExternalBackends = backends.Draw(t, "external backends")
	}
	if rapid.Bool().Draw(t, "own backends") {
		s.OwnBackends = backends.Draw(t, "its own")
	}
	if rapid.Bool().Draw(t, "node port") {
		s.NodePort = uint16(30000 + n)
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "ranges") {
		s.SourceRanges = append(s.SourceRanges, netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 - i), 0, 0, 0}), 8))
	}
	if rapid.Bool().Draw(t, "health") {
		s.HealthCheckNodePort = 32000
	}
	return s
}

// shape is what all rules mean: chains, with the rules of shared chains sorted, since
// the order of services among each other means nothing, and in built-in chains ours
// before others': where others stand among them is up to others.
func shape(k *pretend) map[place][]string {
	all := maps.Clone(map[place][]string(k.chains))
	for _, f := range fixedChains(testNode(), true) {
		all[f.place] = slices.Sorted(slices.Values(all[f.place]))
	}
	for _, p := range parents() {
		all[p.place] = append(within(all[p.place], p.jumps), without(all[p.place], p.jumps)...)
	}
	return all
}

func TestRandomHistoryEndsWhereAFullLoadEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := newPretend()
		before := maps.Clone(k.chains)
		e := pretendEngine(k)
		state := proxy.State{}
		if _, err := e.Sync(t.Context(), state); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 12).Draw(t, "calls") {
			var changes []proxy.Change
			for range rapid.IntRange(1, 3).Draw(t, "changes") {
				s := drawService(t)
				if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
					delete(state, s.Key)
					changes = append(changes, proxy.Change{Key: s.Key})
				} else {
					state[s.Key] = s
					changes = append(changes, proxy.Change{Key: s.Key, Service: &s})
				}
			}
			if rapid.Bool().Draw(t, "whole") {
				if _, err := e.Sync(t.Context(), state); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if err := e.Apply(t.Context(), changes...); err != nil {
				t.Fatal(err)
			}
		}
		sent := k.sent
		if again, err := pretendEngine(k).Sync(t.Context(), state); err != nil || !again.None() || k.sent != sent {
			t.Fatalf("a restart changes %+v, error %v, sends %d", again, err, k.sent-sent)
		}
		fresh := newPretend()
		if _, err := pretendEngine(fresh).Sync(t.Context(), state); err != nil {
			t.Fatal(err)
		}
		if got, want := shape(k), shape(fresh); !maps.EqualFunc(got, want, slices.Equal) {
			t.Fatalf("got\n%v\nwant\n%v", got, want)
		}
		if err := e.Cleanup(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !maps.EqualFunc(k.chains, before, slices.Equal) {
			t.Fatalf("Cleanup leaves\n%v\nwant\n%v", k.chains, before)
		}
	})
}

func TestAnyDamageIsRepairedByOneSync(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := newPretend()
		state := proxy.State{}
		for range rapid.IntRange(0, 4).Draw(t, "services") {
			s := drawService(t)
			state[s.Key] = s
		}
		e := pretendEngine(k)
		for range rapid.IntRange(1, 2).Draw(t, "syncs") {
			if _, err := e.Sync(t.Context(), state); err != nil {
				t.Fatal(err)
			}
		}
		want := shape(k)
		for range rapid.IntRange(1, 5).Draw(t, "damages") {
			damage(t, k)
		}
		if rapid.Bool().Draw(t, "restart") {
			e = pretendEngine(k)
		}
		if _, err := e.Sync(t.Context(), state); err != nil {
			t.Fatal(err)
		}
		if got := shape(k); !maps.EqualFunc(got, want, slices.Equal) {
			t.Fatalf("got\n%v\nwant\n%v", got, want)
		}
		if again, err := pretendEngine(k).Sync(t.Context(), state); err != nil || !again.None() {
			t.Fatalf("not all was repaired at once: %+v, error %v", again, err)
		}
		for _, f := range fixedChains(testNode(), true) {
			has := k.chains[f.place]
			if tail := has[len(has)-len(f.rules):]; !slices.Equal(tail, f.rules) {
				t.Fatalf("chain %s ends with %q, want %q", f.place.chain, tail, f.rules)
			}
		}
	})
}

// damage does to our rules what a careless administrator does.
func damage(t *rapid.T, k *pretend) {
	var ours []place
	for _, at := range sortedPlaces(k.chains) {
		if at.chain != "FOREIGN" {
			ours = append(ours, at)
		}
	}
	at := rapid.SampledFrom(ours).Draw(t, "chain")
	rules := slices.Clone(k.chains[at])
	own := slices.DeleteFunc(slices.Clone(rules), func(r string) bool { return r == "-s 203.0.113.0/24 -j DROP" })
	switch kind := rapid.IntRange(0, 3).Draw(t, "kind"); {
	case kind == 0 && len(own) > 0: // a rule is deleted
		i := slices.Index(rules, rapid.SampledFrom(own).Draw(t, "rule"))
		rules = slices.Delete(rules, i, i+1)
	case kind == 1 && len(own) > 0: // a rule stands twice
		rules = append(rules, rapid.SampledFrom(own).Draw(t, "rule"))
	case kind == 2 && len(own) > 1 && len(own) == len(rules): // the order is turned
		slices.Reverse(rules)
	case kind == 3 && len(own) == len(rules) && len(rules) > 0: // a stranger in our chain
		rules = slices.Insert(rules, 0, "-s 192.0.2.7/32 -j RETURN")
	}
	k.chains[at] = rules
	k.commits++
}
