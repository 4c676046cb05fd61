package resolve

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/damask-sdn/damask/services/tenancy/group"
	"github.com/damask-sdn/damask/services/tenancy/policyspec"
)

// big is a cluster of pods in namespaces of twenty, with policies: each is for
// an app of one namespace, lets in another app there, a namespace by its name
// and the pods of a role in all namespaces, and lets out a block.
type big struct{ pods, policies int }

func (b big) pod(i int) group.Pod {
	return group.Pod{Namespace: fmt.Sprintf("ns%d", i/20), Name: fmt.Sprintf("pod%d", i),
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})},
		Labels:    map[string]string{"app": fmt.Sprintf("app%d", i%5), "role": fmt.Sprintf("role%d", i%50), "version": "v1"}}
}

func (b big) policy(tb testing.TB, i int) policyspec.Policy {
	tb.Helper()
	spaces := b.pods / 20
	p, violations := policyspec.Parse(fmt.Appendf(nil, `{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
		"metadata": {"name": "p%d", "namespace": "ns%d"}, "spec": {"podSelector": {"matchLabels": {"app": "app%d"}},
		"ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "app%d"}}},
			{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ns%d"}}},
			{"namespaceSelector": {}, "podSelector": {"matchLabels": {"role": "role%d"}}}], "ports": [{"port": 80}]}],
		"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]}]}}`,
		i, i%spaces, i%5, (i+1)%5, (i+7)%spaces, i%50))
	if violations != nil {
		tb.Fatal(violations)
	}
	return p
}

func (b big) written(tb testing.TB) []policyspec.Policy {
	tb.Helper()
	all := make([]policyspec.Policy, b.policies)
	for i := range all {
		all[i] = b.policy(tb, i)
	}
	return all
}

// resolve does everything from nothing, up to what is handed out.
func (b big) resolve(written []policyspec.Policy) *Resolver {
	r := New()
	for i := range b.pods / 20 {
		r.SetNamespace(fmt.Sprintf("ns%d", i), map[string]string{"team": fmt.Sprintf("team%d", i%10)})
	}
	for i := range b.pods {
		r.SetPod(b.pod(i))
	}
	for _, p := range written {
		r.SetPolicy(p)
	}
	r.Drain()
	return r
}

// relabel gives pod number n another app and role, and answers how long that
// took up to what is handed out.
func (b big) relabel(r *Resolver, n int) (time.Duration, Changes) {
	p := b.pod(n % b.pods)
	p.Labels["app"] = fmt.Sprintf("app%d", n%7)
	p.Labels["role"] = fmt.Sprintf("role%d", n%53)
	start := time.Now()
	r.SetPod(p)
	c := r.Drain()
	return time.Since(start), c
}

// TestAChangeCostsAThousandthOfComputingAnew bounds the ratio of two times of
// one run, far from what is measured (1:20,000 and more), so that a busy machine does not
// matter.
func TestAChangeCostsAThousandthOfComputingAnew(t *testing.T) {
	b := big{pods: 4000, policies: 1000}
	written := b.written(t)
	start := time.Now()
	r := b.resolve(written)
	whole := time.Since(start)
	const changes = 500
	var all time.Duration
	for i := range changes {
		took, c := b.relabel(r, i*13)
		all += took
		for _, g := range c.Groups {
			if g.Whole || len(g.Added)+len(g.Removed) != 1 {
				t.Fatalf("one pod's labels changed, and a group got %+v", g)
			}
		}
	}
	if one := all / changes; whole < 1000*one {
		t.Errorf("a change takes %s, computing anew %s: got 1:%d, want 1:1000 at least", one, whole, whole/one)
	}
}

func BenchmarkResolve(b *testing.B) {
	for _, size := range []big{{10000, 1000}, {10000, 10000}} {
		written := size.written(b)
		name := fmt.Sprintf("%d pods, %d policies", size.pods, size.policies)
		b.Run(name+", from nothing", func(b *testing.B) {
			for b.Loop() {
				size.resolve(written)
			}
		})
		b.Run(name+", one pod", func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			r := size.resolve(written)
			runtime.GC()
			runtime.ReadMemStats(&after)
			n := 0
			for b.Loop() {
				size.relabel(r, n*13)
				n++
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
		})
	}
}

// BenchmarkChangeBesideAnew is a pod's change of labels beside resolving everything, with
// what either may take.
func BenchmarkChangeBesideAnew(b *testing.B) {
	size := big{pods: 10000, policies: 10000}
	written := size.written(b)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	r := size.resolve(written)
	anew := time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	took := make([]time.Duration, 2000)
	for i := range took {
		took[i], _ = size.relabel(r, i*13)
	}
	slices.Sort(took)
	milliseconds := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(milliseconds(anew), "anew-ms")
	b.ReportMetric(5000, "anew-goal-ms")
	b.ReportMetric(milliseconds(took[len(took)/2]), "change-ms")
	b.ReportMetric(milliseconds(took[len(took)*99/100]), "change-p99-ms")
	b.ReportMetric(5, "change-goal-ms")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "heap-MB")
	b.ReportMetric(500, "heap-goal-MB")
}
