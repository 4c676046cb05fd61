package egressguard_test

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/services/nodeagent/egressguard"
	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
)

var config = egressguard.Config{ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14"), netip.MustParsePrefix("10.200.0.0/16")}}

func translation(mark uint32, ip string) masquerade.EgressIP {
	return masquerade.EgressIP{Mark: mark, IP: netip.MustParseAddr(ip)}
}

func open(t *testing.T, ns *netnstest.Namespace) *egressguard.Guard {
	t.Helper()
	g, err := egressguard.Open(ns.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	return g
}

// inOrder has the elements of sets and the chains in one order: the kernel has none.
func inOrder(ruleset string) string {
	elements := regexp.MustCompile(`(?s)elements = \{(.*?)\}`)
	ruleset = elements.ReplaceAllStringFunc(ruleset, func(text string) string {
		all := strings.Split(strings.Join(strings.Fields(elements.FindStringSubmatch(text)[1]), " "), ", ")
		slices.Sort(all)
		return "elements = " + strings.Join(all, ", ")
	})
	blocks := regexp.MustCompile(`(?s)(table ip \w+ \{|\t(chain|set) .*?\n\t\})`).FindAllString(ruleset, -1)
	slices.Sort(blocks)
	return strings.Join(blocks, "\n")
}

// TestDamageIsRepairedAndNothingElseChanges looks at the table as nft prints it.
func TestDamageIsRepairedAndNothingElseChanges(t *testing.T) {
	proctest.Need(t, "nft")
	for name, userspace := range map[string]bool{"system": false, "netdev": true} {
		t.Run(name, func(t *testing.T) {
			ns := netnstest.New(t, "node")
			ns.Run(t, "nft", "add table ip kept")
			g, c := open(t, ns), config
			c.Userspace = userspace
			a, b := translation(0x82f8b2, "192.0.2.100"), translation(42, "192.0.2.101")
			ensure := func() []string {
				t.Helper()
				repairs, err := g.Ensure(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				more, err := g.Set(t.Context(), []masquerade.EgressIP{a, b}, nil)
				if err != nil {
					t.Fatal(err)
				}
				return append(repairs, more...)
			}
			if has, err := g.Translated(t.Context()); err != nil || len(has) > 0 {
				t.Errorf("without a table: %v, %v", has, err)
			}
			ensure()
			ruleset := func() string { return inOrder(ns.Run(t, "nft", "list", "ruleset")) }
			right := ruleset()
			for _, part := range []string{`"tun0"`, "0x0082f8b2 . 192.0.2.100", "reject", "10.200.0.0", "table ip kept"} {
				if !strings.Contains(right, part) {
					t.Errorf("no %q in\n%s", part, right)
				}
			}
			if got := inOrder(ns.Printed(t)); !strings.Contains(got, "table ip damask_egress") {
				t.Errorf("nft prints\n%s", got)
			}
			for _, damage := range []string{
				"", "flush chain ip damask_egress leaving", "delete table ip damask_egress",
				"add rule ip damask_egress entering accept", "delete element ip damask_egress open { 0x2a }",
				"add element ip damask_egress pairs { 0x2a . 192.0.2.100 }", "delete element ip damask_egress held { 192.0.2.101 }",
				"insert rule ip damask_egress leaving accept", "delete chain ip damask_egress arriving",
			} {
				if damage != "" {
					ns.Run(t, "nft", damage)
				}
				repairs := ensure()
				if (len(repairs) > 0) != (damage != "") {
					t.Errorf("after %q repairs are %q", damage, repairs)
				}
				if got := ruleset(); got != right {
					t.Errorf("after %q:\n%s\nwant\n%s", damage, got, right)
				}
			}
			// Another process finds what is open, and narrows it.
			again := open(t, ns)
			if has, err := again.Translated(t.Context()); err != nil || !slices.Equal(has, []masquerade.EgressIP{b, a}) {
				t.Errorf("it has %v, %v", has, err)
			}
			if closed, err := again.Narrow(t.Context(), []masquerade.EgressIP{a, translation(43, "192.0.2.102")}); err != nil || !slices.Equal(closed, []masquerade.EgressIP{b}) {
				t.Errorf("closed %v, %v", closed, err)
			}
			if has, err := g.Translated(t.Context()); err != nil || !slices.Equal(has, []masquerade.EgressIP{a}) {
				t.Errorf("narrowed it has %v, %v", has, err)
			}
			if got := ns.Run(t, "nft", "list set ip damask_egress held"); !strings.Contains(got, "192.0.2.101") || strings.Contains(got, "192.0.2.102") {
				t.Errorf("held are %s", got)
			}
			if removed, err := again.Remove(t.Context()); err != nil || !removed || strings.Contains(ruleset(), "damask_egress") {
				t.Errorf("removed %v, %v", removed, err)
			}
		})
	}
}

// TestWhatIsInheritedIsOpenBeforeAnythingCanEndThere looks at the table without its
// chains, and then with them: what is in it must be what an agent of ours would have left.
func TestWhatIsInheritedIsOpenBeforeAnythingCanEndThere(t *testing.T) {
	proctest.Need(t, "nft")
	ns := netnstest.New(t, "node")
	g := open(t, ns)
	a, b := translation(0x82f8b2, "192.0.2.100"), translation(42, "192.0.2.101")
	inherit := func(want bool, all ...masquerade.EgressIP) {
		t.Helper()
		if inherited, err := g.Inherit(t.Context(), all); err != nil || inherited != want {
			t.Fatalf("inherited %t, %v, want %t", inherited, err, want)
		}
	}
	inherit(false)
	inherit(true, a, b)
	inherit(false, a)
	if ruleset := ns.Run(t, "nft", "list", "ruleset"); strings.Contains(ruleset, "chain") {
		t.Errorf("there are chains already:\n%s", ruleset)
	}
	if has, err := g.Translated(t.Context()); err != nil || !slices.Equal(has, []masquerade.EgressIP{b, a}) {
		t.Errorf("open are %v, %v", has, err)
	}
	if _, err := g.Ensure(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if repairs, err := g.Set(t.Context(), []masquerade.EgressIP{a, b}, nil); err != nil || len(repairs) > 0 {
		t.Errorf("to open the same changes %q, %v", repairs, err)
	}
}
