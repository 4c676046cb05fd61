package follow

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
)

// BenchmarkChangeToLastFollower compares, in the same run, the time from
// Update to the last of 100 followers' OnChange with that from a bare NATS
// publish to the last of 100 bare subscribers. It reports the medians and their
// ratio.
func BenchmarkChangeToLastFollower(b *testing.B) { changeToLast(b, 100) }

// BenchmarkChangeToLastOfAThousand is the same with as many as a large cluster has nodes.
func BenchmarkChangeToLastOfAThousand(b *testing.B) { changeToLast(b, 1000) }

// changeToLast has so many followers, each on a connection of its own.
func changeToLast(b *testing.B, audience int) {
	server := natsdtest.New(b)
	s := newService(b, server)
	s.put("shop", 1)

	var changes, messages sync.WaitGroup
	for range audience {
		nc := server.Connect()
		f := New(nc, s.source(), Options[namespace]{
			Log: hclog.NewNullLogger(),
			OnChange: func(e Event[namespace]) {
				if e.Object.GetNetid() > 1 {
					changes.Done()
				}
			},
		})
		f.Want("shop")
		start(b, f.Run)
		if err := f.Synced(soon(b)); err != nil {
			b.Fatal(err)
		}
		if _, err := nc.Subscribe("bare", func(*nats.Msg) { messages.Done() }); err != nil {
			b.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			b.Fatal(err)
		}
	}
	publisher := server.Connect()
	var follow, commit, bare []time.Duration
	payload := make([]byte, 64)
	for i := uint32(2); b.Loop(); i++ {
		changes.Add(audience)
		began := time.Now()
		s.put("shop", i)
		commit = append(commit, time.Since(began))
		changes.Wait()
		follow = append(follow, time.Since(began))

		messages.Add(audience)
		began = time.Now()
		if err := publisher.Publish("bare", payload); err != nil {
			b.Fatal(err)
		}
		messages.Wait()
		bare = append(bare, time.Since(began))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(median(follow).Microseconds()), "µs/change")
	b.ReportMetric(float64(median(commit).Microseconds()), "µs/commit")
	b.ReportMetric(float64(median(bare).Microseconds()), "µs/publish")
	b.ReportMetric(float64(median(follow))/float64(median(bare)), "ratio")
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// BenchmarkList is a follower of everything that lists 10,000 objects of which
// none changed.
func BenchmarkList(b *testing.B) {
	server := natsdtest.New(b)
	s := newService(b, server)
	for i := range 20 {
		if _, err := s.Update(b.Context(), func(tx *bucket.Tx) error {
			for k := range 500 {
				name := fmt.Sprintf("n%d-%d", i, k)
				table.Put(tx, namespaceOf(name, uint32(i)), name)
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	f := New(server.Connect(), s.source(), Options[namespace]{All: true, Log: hclog.NewNullLogger()})
	for b.Loop() {
		f.mu.Lock()
		f.interests[""].doubt(0)
		f.mu.Unlock()
		if err := f.list(context.Background(), f.claim()); err != nil {
			b.Fatal(err)
		}
	}
}
