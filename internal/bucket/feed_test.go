package bucket

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
)

// prepare opens a bucket that is not running yet.
func prepare(t testing.TB, server *natsdtest.Server) *Bucket {
	t.Helper()
	js, nc := server.JetStream()
	b, err := Open(t.Context(), js, nc, Config{Name: "damask_test", Subject: "damask.test.v1"}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func running(t testing.TB, b *Bucket) *Bucket {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	if err := b.Ready(soon(t)); err != nil {
		t.Fatal(err)
	}
	return b
}

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func update(t testing.TB, b *Bucket, fn func(tx *Tx)) uint64 {
	t.Helper()
	sequence, err := b.Update(soon(t), func(tx *Tx) error { fn(tx); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return sequence
}

// The mark of a deleted key ends in the store, unseen by the view. Writing the
// key again, and starting when the end of a batch was such a mark, must work.
func TestTombstonesThatEndedAreNoObstacle(t *testing.T) {
	server := natsdtest.New(t)
	b := prepare(t, server)
	b.tombstoneLife = time.Second
	running(t, b)
	update(t, b, func(tx *Tx) { tx.Put("vnid.1", []byte("a")); tx.Put("vnid.2", []byte("a")); tx.Put("pod.x", nil) })
	update(t, b, func(tx *Tx) { tx.Delete("vnid.1") })
	last := update(t, b, func(tx *Tx) { tx.Put("pod.x", []byte("changed")); tx.Delete("vnid.2") })
	for deadline := soon(t); ; {
		sequence, _, err := b.lastOf(deadline, "vnid.2")
		if err != nil {
			t.Fatal(err)
		}
		if sequence == 0 {
			break
		}
	}
	late := running(t, prepare(t, server))
	if e, _ := late.Get("pod.x"); string(e.Value) != "changed" || late.Snapshot().Sequence() < last {
		t.Errorf("got %q at %d, want \"changed\" at %d or later", e.Value, late.Snapshot().Sequence(), last)
	}
	update(t, b, func(tx *Tx) { tx.Put("vnid.1", []byte("again")) })
	update(t, b, func(tx *Tx) { tx.Put("vnid.2", []byte("again")); tx.Put("pod.y", nil) })
	if e, _ := b.Get("vnid.2"); string(e.Value) != "again" {
		t.Errorf("got %q", e.Value)
	}
}

// Somebody gives the server an older store, or none at all.
func TestViewFollowsAStoreThatWasReplaced(t *testing.T) {
	server := natsdtest.New(t)
	b := running(t, prepare(t, server))
	for i := range 20 {
		update(t, b, func(tx *Tx) { tx.Put(Key("vnid", fmt.Sprint(i)), nil) })
	}
	server.Stop()
	if err := os.RemoveAll(filepath.Join(server.StoreDir(), "jetstream")); err != nil {
		t.Fatal(err)
	}
	server.Start()
	sequence := update(t, b, func(tx *Tx) { tx.Put("vnid.new", nil) })
	if list, _ := b.List(""); len(list) != 1 || sequence > 5 {
		t.Errorf("got %d keys at sequence %d, want the new store's only one", len(list), sequence)
	}
}

func TestBatchIsSeenWholeOrNotAtAll(t *testing.T) {
	server := natsdtest.New(t)
	writer, reader := running(t, prepare(t, server)), running(t, prepare(t, server))
	const rounds, keys = 40, 20
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range rounds {
			update(t, writer, func(tx *Tx) {
				for k := range keys {
					tx.Put(Key("vnid", fmt.Sprint(k)), fmt.Append(nil, i))
				}
			})
		}
	}()
	for finished := false; !finished; {
		select {
		case <-done:
			finished = true
		default:
		}
		list, _ := reader.List("vnid.")
		for _, e := range list {
			if len(list) != keys || string(e.Value) != string(list[0].Value) {
				t.Fatalf("a part of a batch is seen: %d keys, %q and %q", len(list), e.Value, list[0].Value)
			}
		}
	}
}

func TestExistingStreamIsUpdatedAndKeepsItsContent(t *testing.T) {
	server := natsdtest.New(t)
	update(t, running(t, prepare(t, server)), func(tx *Tx) { tx.Put("vnid.1", []byte("x")) })
	js, nc := server.JetStream()
	b, err := Open(t.Context(), js, nc, Config{Name: "damask_test", Subject: "damask.test.v1"}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_damask_test")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	if !cfg.AllowAtomicPublish || cfg.MaxMsgsPerSubject != 1 || cfg.Storage != jetstream.FileStorage || cfg.RePublish == nil {
		t.Errorf("got %+v", cfg)
	}
	if _, exists := running(t, b).Get("vnid.1"); !exists {
		t.Error("the content is gone")
	}
}

func TestTransactionsThatComeTogetherAreCommittedTogether(t *testing.T) {
	b := running(t, prepare(t, natsdtest.New(t)))
	const n = 200
	errs := make(chan error, n)
	for i := range n {
		go func() {
			_, err := b.Update(soon(t), func(tx *Tx) error {
				if i%10 == 9 {
					tx.Put("vnid.never", nil)
					return fmt.Errorf("refused %d", i)
				}
				next := len(tx.List("vnid."))
				tx.Put(Key("vnid", fmt.Sprint(next)), fmt.Append(nil, i))
				tx.Put(Key("netnamespace", fmt.Sprint(i)), fmt.Append(nil, next))
				return nil
			})
			errs <- err
		}()
	}
	failed := 0
	for range n {
		if err := <-errs; err != nil {
			failed++
		}
	}
	vnids, _ := b.List("vnid.")
	owners, _ := b.List("netnamespace.")
	if failed != n/10 || len(vnids) != n-n/10 || len(owners) != n-n/10 {
		t.Errorf("got %d failed, %d numbers, %d owners", failed, len(vnids), len(owners))
	}
	for _, o := range owners {
		if e, exists := b.Get("vnid." + string(o.Value)); !exists || Key("netnamespace", string(e.Value)) != o.Key {
			t.Errorf("%s has number %s, which is of %q", o.Key, o.Value, e.Value)
		}
	}
	if s := b.Stats(); s.Commits > n/2 || s.Conflicts > 0 {
		t.Errorf("got %+v, want few commits and no conflicts", s)
	}
}

// What one member of a group cannot have does not cost the others theirs.
func TestMemberThatTheStoreRefusesFailsAlone(t *testing.T) {
	b := running(t, prepare(t, natsdtest.New(t)))
	large := make([]byte, 2<<20) // more than the server takes in one message
	errs := make([]error, 10)
	done := make(chan struct{})
	for i := range errs {
		go func() {
			defer func() { done <- struct{}{} }()
			_, errs[i] = b.Update(soon(t), func(tx *Tx) error {
				tx.Put(Key("vnid", fmt.Sprint(i)), nil)
				if i == 5 {
					tx.Put(Key("pod", "large"), large)
				} else {
					tx.Put(Key("pod", fmt.Sprint(i)), nil)
				}
				return nil
			})
		}()
	}
	for range errs {
		<-done
	}
	for i, err := range errs {
		if (err != nil) != (i == 5) {
			t.Errorf("transaction %d: got %v", i, err)
		}
	}
	if list, _ := b.List("vnid."); len(list) != 9 {
		t.Errorf("got %d keys, want 9", len(list))
	}
}
