package proxybench_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

const (
	// few is the number of services on the node that a node with many is compared with.
	few = 10
	// rounds is how often the two are compared, in turns.
	rounds = 20
	// dials is how many connections make one turn.
	dials = 20
)

// BenchmarkServices measures both engines with 1,000, 5,000 and 10,000 services of
// three endpoints. An iteration is the whole life of such a node.
func BenchmarkServices(b *testing.B) {
	for _, n := range []int{1000, 5000, 10000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			all := figures{}
			for b.Loop() {
				for _, e := range engines() {
					measure(b, e, n, all)
				}
			}
			b.ReportMetric(0, "ns/op") // the sum says nothing
			for unit, values := range all {
				b.ReportMetric(median(values), unit)
			}
		})
	}
}

// figures are what was measured, by the unit that reports it.
type figures map[string][]float64

func (f figures) add(unit string, values ...float64) { f[unit] = append(f[unit], values...) }

// measure takes a node with n services through its life, beside one with few.
func measure(b *testing.B, e engine, n int, all figures) {
	b.Helper()
	small, large := newNode(b, e), newNode(b, e)
	small.do(b, func() { small.sync(b, services(few)) })
	large.do(b, func() {
		before := heap()
		all.add(e.name+"-load-ms", large.sync(b, services(n)))
		all.add(e.name+"-heap-MB", (heap()-before)/1e6)
		all.add(e.name+"-restart-ms", large.restart(b, services(n)))
	})
	for range rounds {
		small.do(b, func() {
			all.add(e.name+"-change-of-few-ms", small.change(b))
			all.add(e.name+"-connect-of-few-µs", small.connect(b, few-1)...)
		})
		large.do(b, func() {
			all.add(e.name+"-change-ms", large.change(b))
			all.add(e.name+"-first-µs", large.connect(b, 0)...)
			all.add(e.name+"-last-µs", large.connect(b, n-1)...)
		})
	}
}

// sync answers how long it took to program a state, in milliseconds.
func (n *node) sync(b *testing.B, state proxy.State) float64 {
	b.Helper()
	begin := time.Now()
	if _, err := n.engine.Sync(b.Context(), state); err != nil {
		b.Fatal(err)
	}
	return milliseconds(begin)
}

// restart is a sync that must find nothing to do.
func (n *node) restart(b *testing.B, state proxy.State) float64 {
	b.Helper()
	begin := time.Now()
	changes, err := n.engine.Sync(b.Context(), state)
	if err != nil || !changes.None() {
		b.Fatalf("a restart without a change sent %+v, error %v", changes, err)
	}
	return milliseconds(begin)
}

// change gives one service an endpoint more and takes it away again, and answers the
// mean of both, in milliseconds.
func (n *node) change(b *testing.B) float64 {
	b.Helper()
	begin := time.Now()
	for _, endpoints := range []int{4, 3} {
		next := service(few/2, endpoints)
		if err := n.engine.Apply(b.Context(), proxy.Change{Key: next.Key, Service: &next}); err != nil {
			b.Fatal(err)
		}
	}
	return milliseconds(begin) / 2
}

func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func milliseconds(since time.Time) float64 { return float64(time.Since(since).Microseconds()) / 1000 }

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
