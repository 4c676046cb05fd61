package flowsync_test

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// firewallOwner owns the flows of the one firewall that is measured.
const firewallOwner = "firewall"

// BenchmarkFirewall10k puts an egress firewall of 10,000 rules into a switch, from rules to the
// switch's confirmation, and then puts one rule into its middle. ovs-ofctl adds the finished
// flows, as whoever rewrites all of them at each change.
func BenchmarkFirewall10k(b *testing.B) {
	br := bridge(b)
	rules := make([]pipeline.FirewallRule, 0, 10_002)
	for i := range 10_000 {
		to := netip.PrefixFrom(netip.AddrFrom4([4]byte{20 + byte(i>>16), byte(i >> 8), byte(i), 0}), 24)
		rules = append(rules, pipeline.FirewallRule{Allow: i%3 > 0, To: []netip.Prefix{to}})
	}
	rules = append(rules, pipeline.FirewallRule{To: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}})
	one := pipeline.FirewallRule{To: []netip.Prefix{netip.MustParsePrefix("20.19.136.7/32")}}
	changed := slices.Insert(slices.Clone(rules), 5000, one)
	file := firewallFile(b, rules)
	var all, change, theirs time.Duration
	for b.Loop() {
		all += program(b, br.Flows, rules)
		change += program(b, br.Flows, changed)
		if n := br.Flows.Size(); n != len(rules)+2 {
			b.Fatalf("%d flows, want one for each of %d rules and one for the rest", n, len(changed))
		}
		clearBridge(b, br.Flows)
		began := time.Now()
		if out, err := br.Ofctl("--bundle", "add-flows", "br0", file).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		theirs += time.Since(began)
		clearBridge(b, br.Flows)
	}
	per := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(b.N) }
	b.ReportMetric(per(all), "us-all")
	b.ReportMetric(per(change), "us-change")
	b.ReportMetric(per(theirs), "us-ofctl")
	b.ReportMetric(0, "ns/op")
}

func firewallFlows(rules []pipeline.FirewallRule) []openflow.Flow {
	return pipeline.FirewallFragment(pipeline.Firewall{Namespace: "a", Number: pipeline.FirstFirewall, Rules: rules}).Flows
}

// program answers how long rules take to be in force.
func program(b *testing.B, s *flowsync.Syncer, rules []pipeline.FirewallRule) time.Duration {
	b.Helper()
	began := time.Now()
	if err := s.Apply(b.Context(), flowsync.Change{Owner: firewallOwner, Flows: firewallFlows(rules)}); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

func clearBridge(b *testing.B, s *flowsync.Syncer) {
	b.Helper()
	if _, err := s.Reconcile(context.Background(), map[string][]openflow.Flow{}); err != nil {
		b.Fatal(err)
	}
}

// firewallFile is what ovs-ofctl adds.
func firewallFile(b *testing.B, rules []pipeline.FirewallRule) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "flows")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	for _, flow := range firewallFlows(rules) {
		fmt.Fprintf(w, "cookie=%#x,%s\n", flowsync.Cookie(firewallOwner), strings.Replace(flow.String(), ", ", ",", 1))
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	return path
}
