package firewallguard_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/services/nodeagent/firewallguard"
)

// TestNftPrintsTheTableAndReadsItBack is what an operator does at night.
func TestNftPrintsTheTableAndReadsItBack(t *testing.T) {
	proctest.Need(t, "nft")
	n := netnstest.New(t, "node")
	g, err := firewallguard.Open(n.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	w := firewallguard.Wanted{
		Nodes: []netip.Addr{outside}, NodePorts: []firewallguard.NodePort{{Protocol: 132, Port: 30001}},
		Free:    []netip.Addr{netip.MustParseAddr("10.128.0.2")},
		Judged:  map[netip.Addr]string{netip.MustParseAddr("10.128.0.3"): "red", netip.MustParseAddr("10.128.0.4"): "1-is-a-label"},
		Allowed: map[string][]firewallguard.Endpoint{"red": nil, "of-nobody": {endpoint}},
	}
	for i := range 1500 {
		w.Judged[netip.AddrFrom4([4]byte{10, 128, 1 + byte(i>>8), byte(i)})] = strings.Repeat("a", 60) + fmt.Sprint(i%100)
		w.Allowed["red"] = append(w.Allowed["red"], firewallguard.Endpoint{Address: netip.AddrPortFrom(endpoint.Address.Addr(), uint16(1000+i)), Protocol: []uint8{6, 17, 132}[i%3]})
	}
	ensure := func() []string {
		t.Helper()
		repairs, err := g.Ensure(t.Context(), firewallguard.Config{Pods: netip.MustParsePrefix("10.128.0.0/23")})
		if err != nil {
			t.Fatal(err)
		}
		return repairs
	}
	if err := g.Set(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	ensure()
	if repairs := ensure(); len(repairs) > 0 {
		t.Errorf("nothing differs, and repairs are %q", repairs)
	}
	printed := n.Printed(t)
	for _, part := range []string{
		"ip daddr @nodes meta l4proto . th dport @ports goto judge", "sctp . 30001", "ip saddr vmap @pods", "ip saddr @free return", "10.128.0.3 : goto fw-red", "10.128.0.4 : goto fw-1-is-a-label", "192.0.2.9 . udp . 1001",
		"chain fw-red {\n\t\tip daddr . meta l4proto . th dport @allowed-red return", "counter drop",
	} {
		if !strings.Contains(printed, part) {
			t.Errorf("nft does not print %q:\n%.4000s", part, printed)
		}
	}
	if strings.Contains(printed, "of-nobody") {
		t.Error("a firewall of nobody has a chain")
	}
	// The first pods that are judged no more, and some rules.
	w.Judged = map[netip.Addr]string{netip.MustParseAddr("10.128.0.3"): "red"}
	w.Allowed["red"] = w.Allowed["red"][1:]
	if err := g.Set(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if repairs := ensure(); len(repairs) > 0 {
		t.Errorf("what was set differs: %q", repairs)
	}
	if printed := n.Run(t, "nft", "list", "ruleset"); strings.Contains(printed, "aaa") || strings.Contains(printed, "192.0.2.9 . tcp . 1000,") || strings.Count(printed, "chain ") != 4 {
		t.Errorf("something is left of firewalls of nobody:\n%.2000s", printed)
	}
}
