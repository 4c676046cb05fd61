package egress

import (
	"fmt"
	"slices"
	"testing"
	"time"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// BenchmarkFailover takes the power of a node that hosts 1, 10, 100 and 1,000 egress IPs, and
// measures until the next node has been told of the last: noticing, deciding, committing, and
// following the bus. What the next node then does is measured in the agent's package egresshost.
func BenchmarkFailover(b *testing.B) {
	for b.Loop() {
		for _, count := range []int{1, 10, 100, 1000} {
			part := &part{TB: b}
			b.ReportMetric(failover(part, count).Seconds()*1000, fmt.Sprintf("fail-of-%d-ms", count))
			part.end()
		}
	}
	b.ReportMetric(0, "ns/op")
}

// part is a benchmark's part, which cleans up when it ends: what is measured next has the
// machine for itself.
type part struct {
	testing.TB
	cleanups []func()
}

// Cleanup replaces the benchmark's.
func (p *part) Cleanup(f func()) { p.cleanups = append(p.cleanups, f) }

func (p *part) end() {
	for _, f := range slices.Backward(p.cleanups) {
		f()
	}
}

// failover answers the median over some nodes that die one after the other.
func failover(b testing.TB, count int) time.Duration {
	b.Helper()
	const deaths, nodes = 3, 8
	sys, f, kill := cluster(b, 1, nodes)
	op := sys.operator()
	var ips []string
	for i := range count {
		ips = append(ips, fmt.Sprintf("192.0.%d.%d", 10+i/250, 1+i%250))
	}
	for n := 1; n <= deaths+1; n++ {
		op.offer(b, &egressv1.HostSubnetEgress{Node: fmt.Sprintf("n%d", n), EgressIps: ips})
	}
	for i, ip := range ips {
		sys.tenancy.netid(fmt.Sprintf("ns%d", i), uint32(50+i)) //nolint:gosec // few
		op.want(b, fmt.Sprintf("ns%d", i), ip)
	}
	slices.Sort(ips)
	f.until("n1", ips...)
	var took []time.Duration
	for n := 1; n <= deaths; n++ {
		kill[fmt.Sprintf("n%d", n)]()
		took = append(took, f.until(fmt.Sprintf("n%d", n+1), ips...))
	}
	slices.Sort(took)
	return took[len(took)/2]
}
