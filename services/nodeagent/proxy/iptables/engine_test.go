package iptables_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/iptables"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/proxytest"
)

// backends are the two kinds of iptables.
func backends() []string { return []string{"iptables-nft", "iptables-legacy"} }

// engine makes an engine for one kind.
func engine(t testing.TB, node proxy.Node, program string) *iptables.Engine {
	t.Helper()
	e, err := iptables.New(node, program)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEngineKeepsTheContract(t *testing.T) {
	for _, program := range backends() {
		t.Run(program, func(t *testing.T) {
			proctest.Need(t, program)
			proxytest.Run(t, func(t testing.TB, node proxy.Node) proxy.Engine { return engine(t, node, program) })
		})
	}
}

// onNode runs a test for each kind of iptables, in the namespace of a fresh node.
func onNode(t *testing.T, test func(t *testing.T, program string, ns *netnstest.Namespace)) {
	t.Helper()
	for _, program := range backends() {
		t.Run(program, func(t *testing.T) {
			proctest.Need(t, program)
			ns := netnstest.New(t, "node")
			ns.Do(t, func() { test(t, program, ns) })
		})
	}
}

// mustSync runs Sync and answers what it changed.
func mustSync(t *testing.T, e *iptables.Engine, state proxy.State) proxy.Changes {
	t.Helper()
	changes, err := e.Sync(t.Context(), state)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

// TestDamageIsRepaired damages real rules. The random damages are in the property test,
// on a kernel in memory.
func TestDamageIsRepaired(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage string
	}{
		{"a jump is deleted", `-t nat -D PREROUTING 1`},
		{"a jump stands twice", `-t nat -A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES`},
		{"all jumps of a chain are deleted", `-F FORWARD`},
		{"a fixed chain is flushed", `-t nat -F KUBE-SERVICES`},
		{"a rule is deleted", `-t nat -D KUBE-SERVICES 1`},
		{"the mark is deleted", `-t nat -F KUBE-MARK-MASQ`},
		{"a rule too many", `-t nat -I KUBE-SERVICES -d 172.30.9.9/32 -j RETURN`},
		{"a chain too many", `-t nat -N KUBE-SVC-AAAAAAAAAAAAAAAA`},
	} {
		t.Run(c.name, func(t *testing.T) {
			onNode(t, func(t *testing.T, program string, ns *netnstest.Namespace) {
				state := many(5)
				mustSync(t, engine(t, clusterNode(), program), state)
				ns.Run(t, "sh", "-c", program+" "+c.damage)
				if changes := mustSync(t, engine(t, clusterNode(), program), state); changes.None() {
					t.Error("the damage was not seen")
				}
				if again := mustSync(t, engine(t, clusterNode(), program), state); !again.None() {
					t.Errorf("not all was repaired at once: %+v", again)
				}
			})
		})
	}
}

// TestJumpsStandBeforeThePodNetworks: the pod network accepts all that pods send. A
// service without backends refuses only when it is asked before.
func TestJumpsStandBeforeThePodNetworks(t *testing.T) {
	onNode(t, func(t *testing.T, program string, ns *netnstest.Namespace) {
		// The package masquerade takes the iptables of the path.
		if strings.Contains(ns.Run(t, "iptables", "--version"), "nf_tables") != (program == "iptables-nft") {
			t.Skip("this machine's iptables is the other kind")
		}
		pods, err := masquerade.New()
		if err != nil {
			t.Fatal(err)
		}
		config := masquerade.Config{ClusterNetworks: clusterNode().ClusterNetworks, TunnelPort: 4789}
		e := engine(t, clusterNode(), program)
		mustSync(t, e, many(1))
		if _, err := pods.Ensure(t.Context(), config); err != nil { // puts its jumps to the top
			t.Fatal(err)
		}
		mustSync(t, e, many(1))
		for _, chain := range []string{"INPUT", "FORWARD"} {
			rules := ns.Run(t, program, "-S", chain)
			if strings.Index(rules, "KUBE-EXTERNAL-SERVICES") > strings.Index(rules, "OPENSHIFT-FIREWALL-") {
				t.Errorf("chain %s:\n%s", chain, rules)
			}
		}
		if rules := ns.Run(t, program, "-t", "nat", "-S", "POSTROUTING"); strings.Index(rules, "KUBE-POSTROUTING") > strings.Index(rules, "OPENSHIFT-MASQUERADE") {
			t.Errorf("chain POSTROUTING:\n%s", rules)
		}
		repairs, err := pods.Ensure(t.Context(), config)
		if err != nil || len(repairs) != 0 {
			t.Errorf("the pod network repairs %q, error %v", repairs, err)
		}
		if again := mustSync(t, e, many(1)); !again.None() {
			t.Errorf("the two do not come to rest: %+v", again)
		}
	})
}

func TestCleanupNamesTheChainThatSomebodyElseUses(t *testing.T) {
	onNode(t, func(t *testing.T, program string, ns *netnstest.Namespace) {
		e := engine(t, clusterNode(), program)
		mustSync(t, e, many(2))
		ns.Run(t, program, "-t", "nat", "-A", "POSTROUTING", "-s", "203.0.113.1/32", "-j", "KUBE-MARK-MASQ")
		if err := e.Cleanup(t.Context()); err == nil {
			t.Error("a chain that is in use was taken out")
		}
		ns.Run(t, program, "-t", "nat", "-D", "POSTROUTING", "-s", "203.0.113.1/32", "-j", "KUBE-MARK-MASQ")
		if err := e.Cleanup(t.Context()); err != nil {
			t.Errorf("once nobody uses it: %v", err)
		}
		if rules := ns.Run(t, program+"-save"); strings.Contains(rules, "KUBE-") {
			t.Errorf("Cleanup leaves\n%s", rules)
		}
	})
}

// TestAFailedChangeAsksForASync: what the kernel has is not known then.
func TestAFailedChangeAsksForASync(t *testing.T) {
	onNode(t, func(t *testing.T, program string, ns *netnstest.Namespace) {
		e := engine(t, clusterNode(), program)
		state := many(2)
		mustSync(t, e, state)
		var s proxy.Service
		for _, s = range state {
			break
		}
		s.ClusterBackends = s.ClusterBackends[:1]
		change := proxy.Change{Key: s.Key, Service: &s}
		stopped, stop := context.WithCancel(t.Context())
		stop()
		if err := e.Apply(stopped, change); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: got error %v", err)
		}
		if err := e.Apply(t.Context(), change); err == nil || !strings.Contains(err.Error(), "needs a Sync") {
			t.Errorf("after an error: got error %v", err)
		}
		state[s.Key] = s
		mustSync(t, e, state)
		if err := e.Apply(t.Context(), change); err != nil {
			t.Error(err)
		}
	})
}

func TestServicesOfTheOtherFamilyAreLeftAlone(t *testing.T) {
	onNode(t, func(t *testing.T, program string, ns *netnstest.Namespace) {
		s := proxy.Service{
			Key:             proxy.Key{Namespace: "shop", Name: "six", Protocol: proxy.TCP},
			ClusterIPs:      []netip.Addr{netip.MustParseAddr("fd00::10"), netip.MustParseAddr("172.30.0.10")},
			Port:            80,
			ClusterBackends: []proxy.Backend{{Addr: netip.MustParseAddr("fd00::20"), Port: 80}, {Addr: netip.MustParseAddr("10.130.0.9"), Port: 80}},
			SourceRanges:    []netip.Prefix{netip.MustParsePrefix("fd00::/64")},
			LoadBalancerIPs: []netip.Addr{netip.MustParseAddr("198.51.100.9")},
		}
		e := engine(t, clusterNode(), program)
		mustSync(t, e, proxy.State{s.Key: s})
		rules := ns.Run(t, program+"-save")
		if strings.Contains(rules, "fd00") || !strings.Contains(rules, "--to-destination 10.130.0.9:80") {
			t.Errorf("got\n%s", rules)
		}
	})
}

func TestEngineWithoutIptablesOrNetworksIsRefused(t *testing.T) {
	if _, err := iptables.New(proxy.Node{}, iptables.DefaultProgram); err == nil || !strings.Contains(err.Error(), "cluster networks are missing") {
		t.Errorf("got error %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := iptables.New(clusterNode(), iptables.DefaultProgram); err == nil || !strings.Contains(err.Error(), "no iptables command") {
		t.Errorf("got error %v", err)
	}
}

func TestSwitchOfTheBackendCutsNothing(t *testing.T) {
	maker := func(program string) proxytest.Maker {
		return func(t testing.TB, node proxy.Node) proxy.Engine {
			proctest.Need(t, program)
			return engine(t, node, program)
		}
	}
	nft, legacy := maker("iptables-nft"), maker("iptables-legacy")
	t.Run("legacy to nft", func(t *testing.T) { proxytest.Switch(t, legacy, nft) })
	t.Run("nft to legacy", func(t *testing.T) { proxytest.Switch(t, nft, legacy) })
}

// TestTableThatIptablesCannotReadIsAnError: to take it for empty would be to write into
// what somebody else made.
func TestTableThatIptablesCannotReadIsAnError(t *testing.T) {
	proctest.Need(t, "iptables-nft", "nft")
	ns := netnstest.New(t, "node")
	ns.Run(t, "nft", "add table ip nat; add chain ip nat theirs; add rule ip nat theirs ip saddr 203.0.113.1 quota over 25 mbytes drop")
	before := ns.Run(t, "nft", "--stateless", "list", "ruleset")
	ns.Do(t, func() {
		_, err := engine(t, clusterNode(), "iptables-nft").Sync(t.Context(), many(1))
		if err == nil || !strings.Contains(err.Error(), "table nat holds rules that iptables cannot read") {
			t.Errorf("got error %v", err)
		}
	})
	if after := ns.Run(t, "nft", "--stateless", "list", "ruleset"); after != before {
		t.Errorf("the ruleset is\n%s\nwas\n%s", after, before)
	}
}
