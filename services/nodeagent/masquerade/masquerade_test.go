package masquerade

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
)

func testConfig() Config {
	return Config{
		ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")},
		ServiceNetworks: []netip.Prefix{netip.MustParsePrefix("172.30.0.0/16")},
		TunnelPort:      4789,
	}
}

// backend is one of the two kinds of iptables.
type backend struct {
	program string
	ns      *netnstest.Namespace
	rules   *Rules
}

// eachBackend runs a test with each kind in a fresh namespace.
func eachBackend(t *testing.T, test func(t *testing.T, b *backend)) {
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run(program, func(t *testing.T) {
			proctest.Need(t, program)
			c, err := newProgram(program)
			if err != nil {
				t.Fatal(err)
			}
			test(t, &backend{program: program, ns: netnstest.New(t, "node"), rules: &Rules{command: c}})
		})
	}
}

// ensure runs Ensure in the namespace.
func (b *backend) ensure(t *testing.T, config Config) []string {
	t.Helper()
	var repairs []string
	var err error
	b.ns.Do(t, func() { repairs, err = b.rules.Ensure(t.Context(), config) })
	if err != nil {
		t.Fatalf("Ensure: %v (after %q)", err, repairs)
	}
	return repairs
}

// do runs iptables with words split at blanks; an underline in a word is a blank.
func (b *backend) do(t *testing.T, arguments string) string {
	t.Helper()
	words := strings.Fields(arguments)
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], "_", " ")
	}
	return b.ns.Run(t, b.program, words...)
}

// save answers all rules of the three tables.
func (b *backend) save(t *testing.T) string {
	t.Helper()
	return b.do(t, "-t raw -S") + b.do(t, "-t nat -S") + b.do(t, "-t filter -S")
}

func TestEnsureMakesTheRulesThatWereObserved(t *testing.T) {
	want := `-A PREROUTING -m comment --comment "disable conntrack for vxlan" -j OPENSHIFT-NOTRACK
-A OUTPUT -m comment --comment "disable conntrack for vxlan" -j OPENSHIFT-NOTRACK
-A OPENSHIFT-NOTRACK -p udp -m udp --dport 4789 -j NOTRACK
-A POSTROUTING -m comment --comment "rules for masquerading OpenShift traffic" -j OPENSHIFT-MASQUERADE
-A OPENSHIFT-MASQUERADE -m mark --mark 0x1/0x1 -j RETURN
-A OPENSHIFT-MASQUERADE -s 10.128.0.0/14 -d 10.128.0.0/14 -m comment --comment "pod-to-pod traffic keeps its address" -j RETURN
-A OPENSHIFT-MASQUERADE -s 10.128.0.0/14 -d 172.30.0.0/16 -m comment --comment "pod-to-service traffic keeps its address" -j RETURN
-A OPENSHIFT-MASQUERADE -s 10.128.0.0/14 -m comment --comment "masquerade pod-to-service and pod-to-external traffic" -j MASQUERADE
-A INPUT -m comment --comment "firewall overrides" -j OPENSHIFT-FIREWALL-ALLOW
-A FORWARD -i tun0 ! -o tun0 -m comment --comment "administrator overrides" -j OPENSHIFT-ADMIN-OUTPUT-RULES
-A FORWARD -m comment --comment "firewall overrides" -j OPENSHIFT-FIREWALL-FORWARD
-A OPENSHIFT-FIREWALL-ALLOW -p udp -m udp --dport 4789 -m comment --comment "tunnel from other nodes" -j ACCEPT
-A OPENSHIFT-FIREWALL-ALLOW -i tun0 -m comment --comment "from pods to this node" -j ACCEPT
-A OPENSHIFT-FIREWALL-FORWARD -s 10.128.0.0/14 -m comment --comment "attempted resend after connection close" -m conntrack --ctstate INVALID -j DROP
-A OPENSHIFT-FIREWALL-FORWARD -d 10.128.0.0/14 -m comment --comment "forward traffic to pods" -j ACCEPT
-A OPENSHIFT-FIREWALL-FORWARD -s 10.128.0.0/14 -m comment --comment "forward traffic from pods" -j ACCEPT
`
	eachBackend(t, func(t *testing.T, b *backend) {
		b.ensure(t, testConfig())
		got := map[string][]string{}
		for _, line := range strings.Split(b.save(t), "\n") {
			if strings.HasPrefix(line, "-A ") {
				chain := strings.Fields(line)[1]
				got[chain] = append(got[chain], line)
			}
		}
		wanted := map[string][]string{}
		for _, line := range strings.Split(strings.TrimSpace(want), "\n") {
			chain := strings.Fields(line)[1]
			wanted[chain] = append(wanted[chain], line)
		}
		for chain, lines := range wanted {
			if !slices.Equal(got[chain], lines) {
				t.Errorf("chain %s: got\n%s\nwant\n%s", chain, strings.Join(got[chain], "\n"), strings.Join(lines, "\n"))
			}
			delete(got, chain)
		}
		if len(got) != 0 {
			t.Errorf("rules too many: %v", got)
		}
	})
}

func TestSecondEnsureChangesNothing(t *testing.T) {
	several := testConfig()
	several.ClusterNetworks = append(several.ClusterNetworks, netip.MustParsePrefix("10.200.0.0/16"))
	several.TunnelPort, several.MasqueradeBit = 0, 14
	for name, config := range map[string]Config{"vxlan": testConfig(), "gre, two cluster networks, bit 14": several} {
		t.Run(name, func(t *testing.T) {
			eachBackend(t, func(t *testing.T, b *backend) {
				if first := b.ensure(t, config); len(first) == 0 {
					t.Error("the first Ensure reports no repair")
				}
				before := b.save(t)
				if again := b.ensure(t, config); len(again) != 0 {
					t.Errorf("the second Ensure repairs %q", again)
				}
				if after := b.save(t); after != before {
					t.Errorf("the second Ensure changed\n%s\nto\n%s", before, after)
				}
			})
		})
	}
}

func TestDamageIsRepairedRuleByRule(t *testing.T) {
	const foreign = "-A FORWARD -s 192.0.2.0/24 -m comment --comment mine -j DROP"
	for _, c := range []struct {
		name    string
		damage  []string
		repairs int
	}{
		{"a rule is deleted", []string{"-t nat -D OPENSHIFT-MASQUERADE 4"}, 1},
		{"a return is deleted", []string{"-t nat -D OPENSHIFT-MASQUERADE 2"}, 1},
		{"a jump is deleted", []string{"-t nat -D POSTROUTING 1"}, 1},
		{"a chain is flushed", []string{"-F OPENSHIFT-FIREWALL-FORWARD"}, 3},
		{"a chain and its jump are deleted", []string{"-D INPUT 1", "-F OPENSHIFT-FIREWALL-ALLOW", "-X OPENSHIFT-FIREWALL-ALLOW"}, 4},
		{"a rule too many in our chain", []string{"-I OPENSHIFT-FIREWALL-FORWARD 1 -s 10.130.0.0/23 -j DROP"}, 1},
		{"rules in the wrong order", []string{"-t nat -D OPENSHIFT-MASQUERADE 1", "-t nat -A OPENSHIFT-MASQUERADE -m mark --mark 0x1/0x1 -j RETURN"}, 2},
		{"jumps in the wrong order", []string{"-D FORWARD -m comment --comment firewall_overrides -j OPENSHIFT-FIREWALL-FORWARD",
			"-I FORWARD 1 -m comment --comment firewall_overrides -j OPENSHIFT-FIREWALL-FORWARD"}, 2},
		{"a jump twice", []string{"-t nat -A POSTROUTING -j OPENSHIFT-MASQUERADE"}, 1},
		{"other people's rules around", []string{"-I FORWARD 2 -s 192.0.2.9 -j DROP", "-t nat -I POSTROUTING 1 -s 127.0.0.0/8 -j MASQUERADE"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachBackend(t, func(t *testing.T, b *backend) {
				b.do(t, strings.Replace(foreign, "-A FORWARD", "-I FORWARD 1", 1))
				b.ensure(t, testConfig())
				for _, command := range c.damage {
					b.do(t, command)
				}
				wantForeign := foreignRules(b.save(t))
				repairs := b.ensure(t, testConfig())
				if len(repairs) != c.repairs {
					t.Errorf("got %d repairs, want %d: %s", len(repairs), c.repairs, strings.Join(repairs, "\n"))
				}
				if got := foreignRules(b.save(t)); !slices.Equal(got, wantForeign) {
					t.Errorf("other people's rules were\n%q\nare\n%q", wantForeign, got)
				}
				if again := b.ensure(t, testConfig()); len(again) != 0 {
					t.Errorf("not all was repaired at once: %q", again)
				}
			})
		})
	}
}

// foreignRules answers the rules that do not mention our chains.
func foreignRules(save string) []string {
	var lines []string
	for _, line := range strings.Split(save, "\n") {
		if strings.HasPrefix(line, "-A ") && !strings.Contains(line, "OPENSHIFT-") {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestAdministratorsRulesAreNeverChanged(t *testing.T) {
	eachBackend(t, func(t *testing.T, b *backend) {
		b.ensure(t, testConfig())
		b.do(t, "-A OPENSHIFT-ADMIN-OUTPUT-RULES -s 10.128.0.5 -j REJECT")
		before := b.do(t, "-S OPENSHIFT-ADMIN-OUTPUT-RULES")
		if repairs := b.ensure(t, testConfig()); len(repairs) != 0 {
			t.Errorf("repairs: %q", repairs)
		}
		if after := b.do(t, "-S OPENSHIFT-ADMIN-OUTPUT-RULES"); after != before {
			t.Errorf("was\n%s\nis\n%s", before, after)
		}
	})
}

func TestChangeOfClusterNetworksReplacesTheOldRules(t *testing.T) {
	eachBackend(t, func(t *testing.T, b *backend) {
		b.ensure(t, testConfig())
		wider := testConfig()
		wider.ClusterNetworks = []netip.Prefix{netip.MustParsePrefix("10.128.0.0/13")}
		b.ensure(t, wider)
		if got := b.save(t); strings.Contains(got, "10.128.0.0/14") || !strings.Contains(got, "10.128.0.0/13") {
			t.Errorf("rules after the change:\n%s", got)
		}
	})
}

func TestEnsureNamesEveryProblemOfItsInput(t *testing.T) {
	r := &Rules{}
	_, err := r.Ensure(t.Context(), Config{ServiceNetworks: []netip.Prefix{netip.MustParsePrefix("172.30.0.1/16")}, MasqueradeBit: 32})
	for _, part := range []string{"cluster networks are missing", "172.30.0.1/16 is no IPv4 network", "masquerade bit 32"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not say %q", err, part)
		}
	}
}

func TestEnsureStopsWithItsContext(t *testing.T) {
	eachBackend(t, func(t *testing.T, b *backend) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		b.ns.Do(t, func() {
			if _, err := b.rules.Ensure(ctx, testConfig()); !errors.Is(err, context.Canceled) {
				t.Errorf("got error %v", err)
			}
		})
	})
}

func TestNodeWithoutIptablesGetsAClearError(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := New()
	if err == nil || !strings.Contains(err.Error(), "no iptables command") {
		t.Errorf("got error %v", err)
	}
}

func TestNewFollowsTheNodesIptables(t *testing.T) {
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		proctest.Need(t, program)
		dir := t.TempDir()
		var err error
		for _, suffix := range []string{"", "-restore"} {
			target, err := exec.LookPath(program + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, filepath.Join(dir, "iptables"+suffix)); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		b := &backend{program: program, ns: netnstest.New(t, "node")}
		if b.rules, err = New(); err != nil {
			t.Fatal(err)
		}
		b.ensure(t, testConfig())
		if got := b.do(t, "-t nat -S OPENSHIFT-MASQUERADE"); !strings.Contains(got, "-j MASQUERADE") {
			t.Errorf("%s: the rules are not in its tables:\n%s", program, got)
		}
	}
}
