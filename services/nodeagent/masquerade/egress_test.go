package masquerade

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/damask-sdn/damask/internal/egressmark"
)

func egressIP(t testing.TB, vnid uint32, ip string) EgressIP {
	t.Helper()
	mark, err := egressmark.Of(vnid, 0, egressmark.Reserved{})
	if err != nil {
		t.Fatal(err)
	}
	return EgressIP{Mark: mark, IP: netip.MustParseAddr(ip)}
}

// setEgress runs SetEgress in the namespace.
func (b *backend) setEgress(t *testing.T, ips ...EgressIP) []string {
	t.Helper()
	var repairs []string
	var err error
	b.ns.Do(t, func() { repairs, err = b.rules.SetEgress(t.Context(), ips) })
	if err != nil {
		t.Fatalf("SetEgress: %v (after %q)", err, repairs)
	}
	return repairs
}

// TestTheObservedEgressRuleIsMade reads the rule from what was observed on a node.
func TestTheObservedEgressRuleIsMade(t *testing.T) {
	text, err := os.ReadFile("../../../test/observed/iptables.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var observed struct {
		NAT []struct{ Chain, Rule string }
	}
	if err := yaml.Unmarshal(text, &observed); err != nil {
		t.Fatal(err)
	}
	want := ""
	for _, r := range observed.NAT {
		if r.Chain == chainMasquerade && strings.Contains(r.Rule, "SNAT") {
			want = "-A " + chainMasquerade + " " + r.Rule
		}
	}
	if want == "" {
		t.Fatal("the rule is not in what was observed")
	}
	eachBackend(t, func(t *testing.T, b *backend) {
		b.ensure(t, testConfig())
		if repairs := b.setEgress(t, egressIP(t, 8583346, "192.168.108.200")); len(repairs) != 2 {
			t.Errorf("repairs: %q", repairs)
		}
		lines := strings.Split(strings.TrimSpace(b.do(t, "-t nat -S OPENSHIFT-MASQUERADE")), "\n")
		at := slices.Index(lines, want)
		if at < 0 || at != len(lines)-2 || !strings.HasSuffix(lines[at+1], "-j MASQUERADE") {
			t.Errorf("want right before MASQUERADE:\n%s\ngot\n%s", want, strings.Join(lines, "\n"))
		}
	})
}

func TestEgressRulesComeAndGoAlone(t *testing.T) {
	config := testConfig()
	config.Userspace = true
	config.ClusterNetworks = append(config.ClusterNetworks, netip.MustParsePrefix("10.200.0.0/16"))
	a, other := egressIP(t, 42, "192.0.2.100"), egressIP(t, 0xffffff, "192.0.2.101")
	eachBackend(t, func(t *testing.T, b *backend) {
		all := func() string { return b.save(t) + b.do(t, "-t mangle -S") }
		b.do(t, "-t mangle -A PREROUTING -s 192.0.2.9 -j MARK --set-xmark 0x4/0x4")
		b.ensure(t, config)
		without := all()
		if got := b.setEgress(t, a, other); len(got) != 8 {
			t.Errorf("two addresses in two networks are %d rules: %q", len(got), got)
		}
		with := all()
		for _, step := range []struct {
			name    string
			do      func() []string
			repairs int
		}{
			{"the same once more", func() []string { return b.setEgress(t, other, a) }, 0},
			{"an audit", func() []string { return b.ensure(t, config) }, 0},
			{"a rule was deleted", func() []string {
				b.do(t, "-D OPENSHIFT-FIREWALL-ALLOW 1")
				return b.ensure(t, config)
			}, 1},
			{"a foreign SNAT in our chain", func() []string {
				b.do(t, "-t nat -I OPENSHIFT-MASQUERADE 1 -s 10.128.0.0/14 -j SNAT --to-source 192.0.2.66")
				return b.ensure(t, config)
			}, 1},
		} {
			if got := step.do(); len(got) != step.repairs || all() != with {
				t.Errorf("%s: %d repairs, want %d: %q; now\n%s", step.name, len(got), step.repairs, got, all())
			}
		}
		b.setEgress(t, a)
		if got := all(); strings.Contains(got, "192.0.2.101") || !strings.Contains(got, "--to-source 192.0.2.100") {
			t.Errorf("one has gone:\n%s", got)
		}
		b.setEgress(t)
		if got := all(); got != without {
			t.Errorf("all have gone:\n%s\nwant\n%s", got, without)
		}
	})
}

// counted counts what is asked of iptables: each is a process.
type counted struct {
	command
	restores, others int
}

func (c *counted) List(table, chain string) ([]string, error) {
	c.others++
	return c.command.List(table, chain)
}

func (c *counted) ListChains(table string) ([]string, error) {
	c.others++
	return c.command.ListChains(table)
}

func (c *counted) Restore(ctx context.Context, changes []change) error {
	c.restores++
	return c.command.Restore(ctx, changes)
}

// TestAnEgressIPThatMovesCostsOneProcess: it is what a failover waits for. What somebody did
// to the chains meanwhile is found by what then fails.
func TestAnEgressIPThatMovesCostsOneProcess(t *testing.T) {
	config := testConfig()
	config.Userspace = true
	a, b, c := egressIP(t, 42, "192.0.2.100"), egressIP(t, 43, "192.0.2.101"), egressIP(t, 7, "192.0.2.102")
	eachBackend(t, func(t *testing.T, node *backend) {
		all := func() string { return node.save(t) + node.do(t, "-t mangle -S") }
		count := &counted{command: node.rules.command}
		node.rules.command = count
		node.ensure(t, config)
		node.setEgress(t) // the first time all is compared
		without := all()
		for _, ips := range [][]EgressIP{{a}, {a, b}, {c}, {a, b, c}, {b}} {
			count.restores, count.others = 0, 0
			node.setEgress(t, ips...)
			if count.restores != 1 || count.others != 0 {
				t.Errorf("%v: iptables-restore ran %d times, iptables %d times", ips, count.restores, count.others)
			}
			if repairs := node.ensure(t, config); len(repairs) > 0 {
				t.Errorf("%v: a comparison finds %q", ips, repairs)
			}
		}
		for name, damage := range map[string]string{
			"a rule that would go is gone already": "-D OPENSHIFT-FIREWALL-ALLOW 1",
			"a chain is empty":                     "-t nat -F OPENSHIFT-MASQUERADE",
			"a chain of the last table is empty":   "-t mangle -F OPENSHIFT-EGRESS-MARK",
		} {
			node.setEgress(t, b)
			node.do(t, damage)
			node.setEgress(t, a)
			if repairs := node.ensure(t, config); len(repairs) > 0 {
				t.Errorf("%s: a comparison finds %q", name, repairs)
			}
		}
		node.setEgress(t)
		if got := all(); got != without {
			t.Errorf("all have gone:\n%s\nwant\n%s", got, without)
		}
	})
}

// TestAStartLeavesEgressRulesAlone is a new process on a node that hosts.
func TestAStartLeavesEgressRulesAlone(t *testing.T) {
	config := testConfig()
	config.Userspace = true
	eachBackend(t, func(t *testing.T, b *backend) {
		b.ensure(t, config)
		b.setEgress(t, egressIP(t, 42, "192.0.2.100"))
		before := b.save(t) + b.do(t, "-t mangle -S")
		b.rules = &Rules{command: b.rules.command}
		if repairs := b.ensure(t, config); len(repairs) != 0 {
			t.Errorf("a start repairs %q", repairs)
		}
		if after := b.save(t) + b.do(t, "-t mangle -S"); after != before {
			t.Errorf("a start changes\n%s\nto\n%s", before, after)
		}
		// What moved away meanwhile goes, once it is known.
		b.setEgress(t, egressIP(t, 43, "192.0.2.101"))
		after := b.save(t) + b.do(t, "-t mangle -S")
		if strings.Contains(after, "192.0.2.100") || !strings.Contains(after, "192.0.2.101") || strings.Contains(after, "0x2a") {
			t.Errorf("after the start:\n%s", after)
		}
	})
}

// TestAStartTakesAwayTheAncestorsEgressRules is a node that OpenShift SDN's agent left:
// its namespace was renumbered meanwhile, so that the address is hosted still, and its mark
// is another.
func TestAStartTakesAwayTheAncestorsEgressRules(t *testing.T) {
	config := testConfig()
	config.ClusterNetworks = append(config.ClusterNetworks, netip.MustParsePrefix("10.200.0.0/16"))
	eachBackend(t, func(t *testing.T, b *backend) {
		was, is := egressIP(t, 42, "192.0.2.100"), egressIP(t, 43, "192.0.2.100")
		b.do(t, "-t nat -N OPENSHIFT-MASQUERADE")
		b.do(t, "-N OPENSHIFT-FIREWALL-ALLOW")
		for _, network := range config.ClusterNetworks {
			b.do(t, fmt.Sprintf("-t nat -I OPENSHIFT-MASQUERADE 1 -s %s -m mark --mark %#x -j SNAT --to-source %s", network, was.Mark, was.IP))
			b.do(t, fmt.Sprintf("-t nat -I OPENSHIFT-MASQUERADE 1 -s %[1]s -d %[1]s -m mark --mark %#[2]x -j MASQUERADE", network, was.Mark))
		}
		b.do(t, "-A OPENSHIFT-FIREWALL-ALLOW -d 192.0.2.100 -m conntrack --ctstate NEW -j REJECT")
		b.ensure(t, config)
		if got := b.save(t); strings.Count(got, "-j SNAT") != 2 || strings.Count(got, "-j REJECT") != 1 {
			t.Errorf("before this node's egress IPs are known:\n%s", got)
		}
		b.setEgress(t, is)
		got := b.save(t)
		for part, times := range map[string]int{
			fmt.Sprintf("--mark %#x ", was.Mark):                                 0,
			fmt.Sprintf("--mark %#x -j SNAT --to-source 192.0.2.100\n", is.Mark): 2,
			"-j SNAT": 2, "-j MASQUERADE": 2, "-j REJECT": 1,
		} {
			if strings.Count(got, part) != times {
				t.Errorf("%q is there %d times, want %d:\n%s", part, strings.Count(got, part), times, got)
			}
		}
	})
}

func TestEgressThatCannotBeChangesNothing(t *testing.T) {
	r := &Rules{}
	ip := netip.MustParseAddr("192.0.2.1")
	_, err := r.SetEgress(t.Context(), []EgressIP{{Mark: 2, IP: ip}, {Mark: 2, IP: netip.MustParseAddr("fd00::1")}, {Mark: 4, IP: ip}, {Mark: 0, IP: ip.Next()}, {Mark: 5, IP: ip.Next().Next()}})
	for _, part := range []string{"have mark 0x2", "fd00::1 is no IPv4 address", "192.0.2.1 has two marks", "mark 0x0 is none", "mark 0x5"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not say %q", err, part)
		}
	}
	if r.egressKnown {
		t.Error("it was taken")
	}
}
