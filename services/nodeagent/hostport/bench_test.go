package hostport

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
)

// BenchmarkPut measures a pod with a host port that comes and goes, beside 1 and beside
// 200 others: what one change costs must not depend on them.
func BenchmarkPut(b *testing.B) {
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		b.Run(program, func(b *testing.B) {
			few, many := benchRules(b, program, 1), benchRules(b, program, 200)
			var took [2]time.Duration
			for b.Loop() {
				for i, put := range []func(){few, many} {
					begin := time.Now()
					put()
					took[i] += time.Since(begin)
				}
			}
			b.ReportMetric(0, "ns/op") // the sum says nothing
			b.ReportMetric(float64(took[0].Microseconds())/2000/float64(b.N), "of-few-ms")
			b.ReportMetric(float64(took[1].Microseconds())/2000/float64(b.N), "of-many-ms")
			b.ReportMetric(float64(took[1])/float64(took[0]), "ratio")
		})
	}
}

// benchRules is a node with host ports of so many pods, and what puts one more to it
// and takes it away.
func benchRules(b *testing.B, program string, pods int) func() {
	b.Helper()
	proctest.Need(b, program)
	node := netnstest.New(b, "node")
	node.Run(b, "ip", "link", "add", "tun0", "type", "bridge")
	rules, err := New(program)
	if err != nil {
		b.Fatal(err)
	}
	put := func(owner string, mappings ...Mapping) {
		node.Do(b, func() {
			if err := rules.Put(b.Context(), owner, mappings); err != nil {
				b.Fatal(err)
			}
		})
	}
	for i := range pods {
		rules.Keep(fmt.Sprint("pod", i), []Mapping{mapping("pod", webIP, uint16(i+1000), TCP)})
	}
	node.Do(b, func() {
		_, err = rules.Ensure(b.Context(), Node{Pods: netip.MustParsePrefix("10.130.0.0/23"), ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")}})
	})
	if err != nil {
		b.Fatal(err)
	}
	return func() {
		put("one more", mapping("web", webIP, 80, TCP))
		put("one more")
	}
}
