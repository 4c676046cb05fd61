package nftables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// workbench is a node's namespace with an engine.
type workbench struct {
	ns     *netnstest.Namespace
	engine *Engine
}

func newWorkbench(t *testing.T) *workbench {
	t.Helper()
	proctest.Need(t, "nft")
	return &workbench{netnstest.New(t, "node"), newEngine(t, clusterNode)}
}

func (w *workbench) sync(t testing.TB, state proxy.State) proxy.Changes {
	t.Helper()
	var changes proxy.Changes
	var err error
	w.ns.Do(t, func() { changes, err = w.engine.Sync(t.Context(), state) })
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

// list answers the table in the kernel.
func (w *workbench) list(t testing.TB) string {
	t.Helper()
	return w.ns.Run(t, "nft", "list", "ruleset")
}

func stickyState() proxy.State {
	s := testService()
	s.Affinity, s.NodePort, s.ExternalBackends = time.Hour, 30080, s.ClusterBackends
	u := testService()
	u.Name, u.Protocol, u.ClusterIPs = "dns", proxy.UDP, []netip.Addr{netip.MustParseAddr("172.30.0.2")}
	return proxy.State{s.Key: s, u.Key: u}
}

// TestNftPrintsTheTable has a service of each kind. nft (1.0.6) cannot read back what it
// prints here: it knows no masked address as a part of a key.
func TestNftPrintsTheTable(t *testing.T) {
	w := newWorkbench(t)
	state := stickyState()
	for i, change := range []func(*proxy.Service){
		func(*proxy.Service) {},
		func(s *proxy.Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")} },
		func(s *proxy.Service) { s.ExternalLocal, s.Affinity = true, time.Minute },
		func(s *proxy.Service) {
			s.ExternalLocal, s.SourceRanges = true, []netip.Prefix{netip.MustParsePrefix("203.0.113.9/32")}
		},
		func(s *proxy.Service) { s.ExternalLocal, s.OwnBackends = true, s.ClusterBackends[:1] },
		func(s *proxy.Service) { s.ExternalLocal, s.ExternalBackends = true, nil },
		func(s *proxy.Service) { s.ClusterBackends, s.ExternalBackends = nil, nil },
		func(s *proxy.Service) { s.ClusterBackends, s.ExternalBackends, s.Held = nil, nil, true },
	} {
		s := testService()
		s.Name, s.NodePort = fmt.Sprintf("more%d", i), uint16(30100+i)
		s.ClusterIPs = []netip.Addr{netip.AddrFrom4([4]byte{172, 30, 1, byte(i)})}
		s.ExternalIPs, s.LoadBalancerIPs = []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})}, []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, byte(100 + i)})}
		s.ExternalBackends = s.ClusterBackends
		change(&s)
		state[s.Key] = s
	}
	w.sync(t, state)
	printed := w.list(t)
	for _, part := range []string{"172.30.1.0 . tcp . 80", "chain pick-cluster-2", "chain sticky-external-2-60"} {
		if !strings.Contains(printed, part) {
			t.Errorf("nft does not print %q:\n%s", part, printed)
		}
	}
}

func TestDamageIsRepairedByTheNextSync(t *testing.T) {
	const table = " ip " + tableName + " "
	for _, c := range []struct{ name, damage string }{
		{"a chain is emptied", "flush chain" + table + "nat-prerouting"},
		{"a chain of a choice is emptied", "flush chain" + table + "pick-cluster-2"},
		{"a rule too many", "insert rule" + table + "services drop"},
		{"an element is gone", "delete element" + table + "ways-cluster { 172.30.0.2 . udp . 80 }"},
		{"an element too many", "add element" + table + "ways-cluster { 172.30.0.9 . udp . 80 }"},
		{"an element leads elsewhere", "delete element" + table + "backends { 172.30.0.2 . udp . 80 . 0 }; add element" + table + "backends { 172.30.0.2 . udp . 80 . 0 : 10.128.0.9 . 53 }"},
		{"all elements are gone", "flush set" + table + "pick-cluster-2; flush map" + table + "backends"},
		{"a chain of somebody", "add chain" + table + "somebodys; add rule" + table + "somebodys drop"},
		{"a set of somebody", "add set" + table + "somebodys { type ipv4_addr; }"},
		{"a set as another version made it", "delete table ip " + tableName + "; add table ip " + tableName + "; add map" + table + "hairpin { type ipv4_addr : verdict; }"},
		{"the table is gone", "delete table ip " + tableName},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorkbench(t)
			w.sync(t, stickyState())
			want := w.elements(t)
			w.ns.Run(t, "nft", c.damage)
			if changes := w.sync(t, stickyState()); changes.None() {
				t.Error("a Sync that repairs reports no changes")
			}
			if got := w.elements(t); got != want {
				t.Errorf("repaired to\n%s\nwant\n%s", got, want)
			}
			if again := w.sync(t, stickyState()); !again.None() {
				t.Errorf("not all was repaired at once: %+v", again)
			}
		})
	}
}

// elements reads back everything, in an order that does not depend on history.
func (w *workbench) elements(t *testing.T) string {
	t.Helper()
	var c content
	var err error
	w.ns.Do(t, func() { c, err = w.engine.kernel.read(nil) })
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(c.sets, c.chains) + c.items.words()
}

func TestEveryRuleIsInTheKernelAsItWasSent(t *testing.T) {
	w := newWorkbench(t)
	w.sync(t, stickyState())
	list := w.list(t)
	for _, part := range []string{
		"ip daddr . meta l4proto . th dport @ways-cluster goto cluster",
		"ip daddr & 0.0.0.0 . meta l4proto . th dport @ways-external ip daddr != 127.0.0.0/8 fib daddr type local goto external",
		"dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @backends",
		"numgen random mod 2 offset 32768 map @backends",
		"meta mark & 0x00000001 != 0x00000000 meta mark set meta mark & 0xfffffffe masquerade fully-random",
		"ct status dnat ip saddr . ip daddr @hairpin masquerade fully-random",
		"type nat hook prerouting priority dstnat; policy accept;",
		"type filter hook forward priority -110; policy accept;",
		"reject comment",
	} {
		if !strings.Contains(list, part) {
			t.Errorf("the ruleset has no %q:\n%s", part, list)
		}
	}
}

func TestNodePortNetworksLimitNodePorts(t *testing.T) {
	w := newWorkbench(t)
	node := clusterNode
	node.NodePortNetworks, node.MasqueradeBit = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, 14
	w.engine = newEngine(t, node)
	w.sync(t, stickyState())
	list := w.list(t)
	for _, part := range []string{"ip daddr 192.0.2.0/24 fib daddr type local goto external", "meta mark set meta mark | 0x00004000"} {
		if !strings.Contains(list, part) {
			t.Errorf("the ruleset has no %q:\n%s", part, list)
		}
	}
	// Another setting is a difference of rules only.
	w.engine = newEngine(t, clusterNode)
	if changes := w.sync(t, stickyState()); changes.Added == 0 || changes.Added > 20 {
		t.Errorf("another setting changes %+v", changes)
	}
}

func TestNodeThatIsWrongIsRefused(t *testing.T) {
	if _, err := New(proxy.Node{MasqueradeBit: 32}); err == nil || !strings.Contains(err.Error(), "masquerade bit 32") {
		t.Errorf("got error %v", err)
	}
}

func TestCanceledContextChangesNothing(t *testing.T) {
	w := newWorkbench(t)
	w.sync(t, proxy.State{})
	before := w.list(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := testService()
	w.ns.Do(t, func() {
		if _, err := w.engine.Sync(ctx, stickyState()); !errors.Is(err, context.Canceled) {
			t.Errorf("Sync: got error %v", err)
		}
		if err := w.engine.Cleanup(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Cleanup: got error %v", err)
		}
	})
	w.sync(t, proxy.State{})
	w.ns.Do(t, func() {
		if err := w.engine.Apply(ctx, proxy.Change{Key: s.Key, Service: &s}); !errors.Is(err, context.Canceled) {
			t.Errorf("Apply: got error %v", err)
		}
	})
	if after := w.list(t); after != before {
		t.Errorf("rules were\n%s\nare\n%s", before, after)
	}
}

func TestErrorOfTheKernelAsksForASync(t *testing.T) {
	w := newWorkbench(t)
	w.sync(t, stickyState())
	w.ns.Run(t, "nft", "delete table ip "+tableName)
	s := stickyState()[testService().Key]
	s.ClusterBackends = s.ClusterBackends[:1]
	change := proxy.Change{Key: s.Key, Service: &s}
	w.ns.Do(t, func() {
		if err := w.engine.Apply(t.Context(), change); err == nil {
			t.Error("Apply to a table that is gone is no error")
		}
		if err := w.engine.Apply(t.Context(), change); err == nil || !strings.Contains(err.Error(), "the last change failed") {
			t.Errorf("Apply after an error: got error %v", err)
		}
	})
	w.sync(t, stickyState())
	w.ns.Do(t, func() {
		if err := w.engine.Apply(t.Context(), change); err != nil {
			t.Errorf("Apply after a Sync: %v", err)
		}
	})
}

func TestHistoriesEndAsCompiledFromScratch(t *testing.T) {
	w := newWorkbench(t)
	rapid.Check(t, func(rt *rapid.T) {
		state := proxy.State{}
		w.sync(t, state)
		for range rapid.IntRange(1, 12).Draw(rt, "changes") {
			var changes []proxy.Change
			for range rapid.IntRange(1, 3).Draw(rt, "services") {
				s := drawService(rt)
				change := proxy.Change{Key: s.Key}
				delete(state, s.Key)
				if rapid.IntRange(0, 3).Draw(rt, "stays") > 0 {
					change.Service, state[s.Key] = &s, s
				}
				changes = append(changes, change)
			}
			var err error
			w.ns.Do(t, func() { err = w.engine.Apply(t.Context(), changes...) })
			if err != nil {
				rt.Fatalf("Apply %+v: %v", changes, err)
			}
		}
		w.engine = newEngine(t, clusterNode)
		if differs := w.sync(t, state); !differs.None() {
			rt.Fatalf("the history ends %+v away from a full load of %+v", differs, state)
		}
	})
}

// drawService draws one of eight services, with addresses of its own.
func drawService(rt *rapid.T) proxy.Service {
	n := rapid.IntRange(0, 7).Draw(rt, "service")
	flip := func(what string) bool { return rapid.Bool().Draw(rt, what) }
	list := func(what string) []proxy.Backend {
		var all []proxy.Backend
		for _, i := range rapid.SliceOfN(rapid.IntRange(1, 9), 0, 7).Draw(rt, what) {
			all = append(all, proxy.Backend{Addr: netip.AddrFrom4([4]byte{10, 128, 0, byte(i)}), Port: 8080})
		}
		return all
	}
	s := proxy.Service{
		Key:             proxy.Key{Namespace: "shop", Name: fmt.Sprintf("s%d", n), Protocol: []proxy.Protocol{proxy.TCP, proxy.UDP, proxy.SCTP}[n%3]},
		ClusterIPs:      []netip.Addr{netip.AddrFrom4([4]byte{172, 30, 0, byte(n)})},
		Port:            uint16(80 + rapid.IntRange(0, 1).Draw(rt, "port")),
		ClusterBackends: list("cluster backends"), ExternalBackends: list("external backends"),
		ExternalLocal: flip("external local"), InternalLocal: flip("internal local"),
	}
	if flip("own backends") {
		s.OwnBackends = list("its own")
	}
	if flip("node port") {
		s.NodePort = uint16(30000 + n)
	}
	if flip("balancer") {
		s.LoadBalancerIPs = []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, byte(n)})}
		s.ExternalIPs = []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 101, byte(n)})}
	}
	if flip("ranges") {
		s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("0.0.0.0/0")}[:rapid.IntRange(1, 2).Draw(rt, "many")]
	}
	s.Affinity = time.Duration(rapid.IntRange(0, 2).Draw(rt, "affinity")) * time.Hour
	return s
}
