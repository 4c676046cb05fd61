package svcsync

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/proctest"
)

// many puts n services of three endpoints each on the shelves.
func (r *rig) many(n int) {
	for i := range n {
		name := fmt.Sprintf("s%d", i)
		r.put(service(name, fmt.Sprintf("172.30.%d.%d", i>>8, i&0xff)))
		r.putSlices(r.three(i, 0))
	}
}

// three is the slice of a service, whose first endpoint differs by the round.
func (r *rig) three(i, round int) *sliceOf {
	s := slice(fmt.Sprintf("s%d", i), fmt.Sprintf("s%d-a", i))
	for b := range 3 {
		address := fmt.Sprintf("10.%d.%d.%d", 128+b, i>>8, i&0xff)
		if b == 0 {
			address = fmt.Sprintf("10.131.%d.%d", round%250, i%250+1)
		}
		s.Endpoints = append(s.Endpoints, endpointAt(address))
	}
	return s
}

// BenchmarkServices measures, for each engine and number of services, from when the
// loop is told until it is in force: a load of all, a start with nothing changed, one
// change, and changes that come at a hundred a second, as their lag and the memory
// that they cost.
func BenchmarkServices(b *testing.B) {
	for _, kind := range []string{"nftables", "iptables-nft"} {
		for _, n := range []int{1000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) { benchServices(b, kind, n) })
		}
	}
}

func benchServices(b *testing.B, kind string, n int) {
	proctest.Need(b, "nft", "iptables-nft")
	r := newRig(b, kind)
	r.many(n)
	patient, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	began := time.Now()
	r.start().settledBy(patient)
	load := time.Since(began)
	r.stop()
	began = time.Now()
	r.start().settledBy(patient)
	restart := time.Since(began)
	if sent := r.engine().sent; !sent.None() {
		b.Errorf("a start with nothing changed sends %+v", sent)
	}
	round := 0
	for b.Loop() {
		round++
		r.putSlices(r.three(round%n, round))
		if _, _, err := r.WaitProgrammed(soon(b), KindEndpointSlice, fmt.Sprintf("shop/s%d-a", round%n), r.revision); err != nil {
			b.Fatal(err)
		}
	}
	before := heap()
	lags := r.stream(b, n, 1000, 10*time.Millisecond)
	b.ReportMetric(load.Seconds(), "load-s")
	b.ReportMetric(restart.Seconds(), "restart-s")
	b.ReportMetric(lags[len(lags)/2].Seconds()*1000, "lag-median-ms")
	b.ReportMetric(lags[len(lags)*99/100].Seconds()*1000, "lag-99%-ms")
	b.ReportMetric((heap()-before)/(1<<20), "grown-MiB")
	b.ReportMetric(heap()/(1<<20), "heap-MiB")
}

// stream makes changes at a pace, and answers how long each took, sorted.
func (r *rig) stream(b *testing.B, n, changes int, every time.Duration) []time.Duration {
	lags := make(chan time.Duration, changes)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := range changes {
		<-tick.C
		began := time.Now()
		r.putSlices(r.three(i%n, i+7))
		go func(path string, revision uint64) {
			if _, _, err := r.WaitProgrammed(soon(b), KindEndpointSlice, path, revision); err != nil {
				b.Error(err)
			}
			lags <- time.Since(began)
		}(fmt.Sprintf("shop/s%d-a", i%n), r.revision)
	}
	all := make([]time.Duration, 0, changes)
	for range changes {
		all = append(all, <-lags)
	}
	slices.Sort(all)
	return all
}

func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
