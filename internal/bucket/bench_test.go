package bucket_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
)

// BenchmarkUpdate is one commit after the other.
func BenchmarkUpdate(b *testing.B) {
	for _, keys := range []int{1, 2, 10} {
		for mode, start := range map[string]func(testing.TB) *natsdtest.Server{
			"periodic": natsdtest.New, "always": natsdtest.NewSyncing,
		} {
			b.Run(fmt.Sprintf("keys=%d/sync=%s", keys, mode), func(b *testing.B) {
				store := open(b, start(b))
				value := make([]byte, 300)
				for i := 0; b.Loop(); i++ {
					value[0], value[1] = byte(i), byte(i>>8)
					if _, err := store.Update(b.Context(), func(tx *bucket.Tx) error {
						for k := range keys {
							tx.Put(bucket.Key("vnid", fmt.Sprint(k)), append([]byte(nil), value...))
						}
						return nil
					}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkUpdateParallel is commits of different keys, 32 at once.
func BenchmarkUpdateParallel(b *testing.B) {
	for _, keys := range []int{1, 2} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			store := open(b, natsdtest.New(b))
			var number atomic.Int64
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					n := number.Add(1)
					if _, err := store.Update(b.Context(), func(tx *bucket.Tx) error {
						for k := range keys {
							tx.Put(bucket.Key("pod", fmt.Sprint(k), fmt.Sprint(n)), make([]byte, 300))
						}
						return nil
					}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkConflicts is four replicas that all want the same key in each
// commit, each in two goroutines: the worst case.
func BenchmarkConflicts(b *testing.B) {
	server := natsdtest.New(b)
	const replicas, each = 4, 2
	work := make(chan int)
	var all sync.WaitGroup
	var stores []*bucket.Bucket
	for range replicas {
		store := open(b, server)
		stores = append(stores, store)
		for range each {
			all.Go(func() {
				for i := range work {
					if _, err := store.Update(b.Context(), func(tx *bucket.Tx) error {
						tx.Put("cursor.next", fmt.Append(nil, i))
						tx.Put(bucket.Key("vnid", fmt.Sprint(i)), nil)
						return nil
					}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
	}
	for i := 0; b.Loop(); i++ {
		work <- i
	}
	close(work)
	all.Wait()
	var conflicts, commits uint64
	for _, store := range stores {
		s := store.Stats()
		conflicts += s.Conflicts
		commits += s.Commits
	}
	b.ReportMetric(float64(conflicts)/float64(commits), "conflicts/commit")
}

// BenchmarkRebuild is what a replica's start costs, with 10,000 keys.
func BenchmarkRebuild(b *testing.B) {
	server := natsdtest.New(b)
	first := open(b, server)
	for i := range 100 {
		if _, err := first.Update(b.Context(), func(tx *bucket.Tx) error {
			for k := range 100 {
				tx.Put(bucket.Key("pod", fmt.Sprint(i), fmt.Sprint(k)), make([]byte, 300))
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if list := open(b, server).Snapshot().List(""); len(list) != 10000 {
			b.Fatalf("got %d keys", len(list))
		}
	}
}

// BenchmarkScan is a page of 1,000 out of 10,000 keys, without the server.
func BenchmarkScan(b *testing.B) {
	store := open(b, natsdtest.New(b))
	for i := range 10 {
		if _, err := store.Update(b.Context(), func(tx *bucket.Tx) error {
			for k := range 1000 {
				tx.Put(bucket.Key("pod", fmt.Sprint(i), fmt.Sprint(k)), make([]byte, 300))
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		n := 0
		for range store.Scan("pod.", "pod.5") {
			if n++; n == 1000 {
				break
			}
		}
	}
}
