package link

import (
	"fmt"
	"sync"
	"testing"
)

// BenchmarkEnsurePod measures the creation of a pod's pair with all that is in it.
func BenchmarkEnsurePod(b *testing.B) {
	for _, userspace := range []bool{false, true} {
		b.Run(fmt.Sprintf("userspace=%v", userspace), func(b *testing.B) {
			n := newNode(b, userspace)
			p, _ := n.pod(b, 0)
			for b.Loop() {
				if _, err := n.EnsurePod(b.Context(), p); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := n.DeletePod(b.Context(), p.HostVeth); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkEnsurePodParallel measures ten at once, per pod.
func BenchmarkEnsurePodParallel(b *testing.B) {
	const at = 10
	n := newNode(b, true)
	pods := make([]Pod, at)
	for i := range pods {
		pods[i], _ = n.pod(b, i)
	}
	each := func(do func(p Pod) error) {
		var wg sync.WaitGroup
		for _, p := range pods {
			wg.Go(func() {
				if err := do(p); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	for b.Loop() {
		each(func(p Pod) error { _, err := n.EnsurePod(b.Context(), p); return err })
		b.StopTimer()
		each(func(p Pod) error { return n.DeletePod(b.Context(), p.HostVeth) })
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*at), "µs/pod")
}

// BenchmarkDeletePod measures the removal of a pair.
func BenchmarkDeletePod(b *testing.B) {
	n := newNode(b, true)
	p, _ := n.pod(b, 0)
	for b.Loop() {
		b.StopTimer()
		if _, err := n.EnsurePod(b.Context(), p); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := n.DeletePod(b.Context(), p.HostVeth); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCheckPod measures a comparison that finds nothing.
func BenchmarkCheckPod(b *testing.B) {
	n := newNode(b, true)
	p, _ := n.pod(b, 0)
	if _, err := n.EnsurePod(b.Context(), p); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if got, err := n.CheckPod(b.Context(), p); err != nil || len(got) != 0 {
			b.Fatal(got, err)
		}
	}
}
