package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
)

// openThrough opens a replica whose connection goes through a proxy.
func openThrough(t testing.TB, proxy *natsdtest.Proxy) *bucket.Bucket {
	t.Helper()
	nc, err := nats.Connect(proxy.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.ReconnectBufSize(-1), nats.IgnoreDiscoveredServers(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // there are to be many
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bucket.Open(t.Context(), js, nc, cfg, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	run(t, b)
	return b
}

func TestCommitWhoseAnswerIsLostIsFoundApplied(t *testing.T) {
	for name, keys := range map[string][]string{
		"one key":      {"vnid.42"},
		"several keys": {"vnid.42", "netnamespace.shop", "cursor.next"},
	} {
		for how, meanwhile := range map[string]func(t *testing.T, other *bucket.Bucket){
			"":                                 func(*testing.T, *bucket.Bucket) {},
			", others wrote the keys":          func(t *testing.T, other *bucket.Bucket) { overwrite(t, other, keys) },
			", others wrote one of the keys":   func(t *testing.T, other *bucket.Bucket) { overwrite(t, other, keys[:1]) },
			", others wrote and erased a key":  func(t *testing.T, other *bucket.Bucket) { overwrite(t, other, keys); erase(t, other, keys[0]) },
			", others wrote some other things": func(t *testing.T, other *bucket.Bucket) { overwrite(t, other, []string{"vnid.1", "vnid.2"}) },
		} {
			t.Run(name+how, func(t *testing.T) {
				server := natsdtest.New(t)
				proxy := natsdtest.NewProxy(t, server)
				b, other := openThrough(t, proxy), open(t, server)
				proxy.Mute()
				wrote := make(chan error, 1)
				go func() {
					_, err := b.Update(soon(t), func(tx *bucket.Tx) error {
						for _, key := range keys {
							tx.Put(key, []byte("mine"))
						}
						return nil
					})
					wrote <- err
				}()
				if err := other.Wait(soon(t), uint64(len(keys))); err != nil {
					t.Fatal(err)
				}
				meanwhile(t, other)
				proxy.Cut()
				if err := <-wrote; err != nil {
					t.Fatal(err)
				}
				if s := b.Stats(); s.Commits != 1 || s.Conflicts != 0 || s.Resends == 0 {
					t.Errorf("got %+v, want one commit, sent again and found applied", s)
				}
			})
		}
	}
}

func overwrite(t *testing.T, b *bucket.Bucket, keys []string) {
	t.Helper()
	for _, key := range keys {
		put(t, b, key, "theirs")
	}
}

func erase(t *testing.T, b *bucket.Bucket, key string) {
	t.Helper()
	if _, err := b.Update(soon(t), func(tx *bucket.Tx) error { tx.Delete(key); return nil }); err != nil {
		t.Fatal(err)
	}
}

// The server forgot the commit's id in its restart, and others have written
// all keys of the commit since: nobody can know any more.
func TestCommitThatNobodyRemembersIsSaidToBeUnknown(t *testing.T) {
	server := natsdtest.New(t)
	proxy := natsdtest.NewProxy(t, server)
	b, other := openThrough(t, proxy), open(t, server)
	proxy.Mute()
	wrote := make(chan error, 1)
	go func() {
		_, err := b.Update(soon(t), func(tx *bucket.Tx) error {
			tx.Put("vnid.42", []byte("mine"))
			tx.Put("vnid.43", []byte("mine"))
			return nil
		})
		wrote <- err
	}()
	if err := other.Wait(soon(t), 2); err != nil {
		t.Fatal(err)
	}
	overwrite(t, other, []string{"vnid.42", "vnid.43"})
	server.Stop()
	proxy.Cut()
	server.Start()
	if err := <-wrote; !errors.Is(err, bucket.ErrOutcomeUnknown) {
		t.Fatalf("got %v, want ErrOutcomeUnknown", err)
	}
}

func TestUpdateWithoutAServerEndsWithItsContext(t *testing.T) {
	server := natsdtest.New(t)
	b := open(t, server)
	server.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	started := time.Now()
	_, err := b.Update(ctx, func(tx *bucket.Tx) error { tx.Put("vnid.1", nil); return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// Replicas allocate while their connections are spoiled at random. Nothing in
// the transaction looks whether the owner has a number already, so that a
// commit applied twice would show.
func TestSpoiledConnectionsNeverAllocateTwice(t *testing.T) {
	const replicas, each = 4, 40
	server := natsdtest.New(t)
	var mu sync.Mutex
	succeeded := make(map[string]bool)
	var allocating, spoiling sync.WaitGroup
	done := make(chan struct{})
	for r := range replicas {
		proxy := natsdtest.NewProxy(t, server)
		b := openThrough(t, proxy)
		spoiling.Go(func() { spoil(proxy, done) })
		allocating.Go(func() {
			for i := range each {
				owner := fmt.Sprintf("r%d-%d", r, i)
				_, err := b.Update(soon(t), func(tx *bucket.Tx) error {
					number := fmt.Sprintf("%05d", len(tx.List("vnid.")))
					tx.Put(bucket.Key("vnid", number), []byte(owner))
					if i%2 == 0 { // commits of one key take another way
						tx.Put("cursor.next", []byte(number))
					}
					return nil
				})
				behind := errors.Is(err, bucket.ErrViewBehind)
				if err != nil && !behind && !errors.Is(err, bucket.ErrOutcomeUnknown) {
					t.Error(err)
				}
				mu.Lock()
				succeeded[owner] = err == nil || behind
				mu.Unlock()
			}
		})
	}
	allocating.Wait()
	close(done)
	spoiling.Wait()
	count := make(map[string]int)
	claims, _ := open(t, server).List("vnid.")
	for _, claim := range claims {
		count[string(claim.Value)]++
	}
	for owner, ok := range succeeded {
		if n := count[owner]; n > 1 || (ok && n != 1) {
			t.Errorf("%s: allocated %d times, answered success %v", owner, n, ok)
		}
	}
}

func spoil(proxy *natsdtest.Proxy, done <-chan struct{}) {
	for {
		select {
		case <-done:
			proxy.Cut()
			return
		case <-time.After(rand.N(200 * time.Millisecond)):
		}
		proxy.Mute()
		select {
		case <-done:
		case <-time.After(rand.N(10 * time.Millisecond)):
		}
		proxy.Cut()
	}
}
