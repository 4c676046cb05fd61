package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"google.golang.org/protobuf/proto"
)

var cfg = bucket.Config{Name: "damask_tenancy", Subject: "damask.tenancy.v1"}

// open opens a replica of the bucket, on a connection of its own, that runs as
// long as the test.
func open(t testing.TB, server *natsdtest.Server) *bucket.Bucket {
	t.Helper()
	js, nc := server.JetStream()
	b, err := bucket.Open(t.Context(), js, nc, cfg, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	run(t, b)
	return b
}

func run(t testing.TB, b *bucket.Bucket) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	if err := b.Ready(soon(t)); err != nil {
		t.Fatal(err)
	}
}

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func put(t testing.TB, b *bucket.Bucket, pairs ...string) uint64 {
	t.Helper()
	sequence, err := b.Update(soon(t), func(tx *bucket.Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			tx.Put(pairs[i], []byte(pairs[i+1]))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sequence
}

func TestUpdateIsSeenByItsOwnReplicaAtOnceAndByOthersAtItsSequence(t *testing.T) {
	server := natsdtest.New(t)
	one, two := open(t, server), open(t, server)
	sequence := put(t, one, "vnid.42", "shop", "netnamespace.shop", "42")
	for _, b := range []*bucket.Bucket{one, two} {
		if err := b.Wait(soon(t), sequence); err != nil {
			t.Fatal(err)
		}
		e, exists := b.Get("vnid.42")
		if !exists || string(e.Value) != "shop" || e.Revision != sequence-1 {
			t.Errorf("got %q at %d, %v, want shop at %d", e.Value, e.Revision, exists, sequence-1)
		}
		list, at := b.List("netnamespace.")
		if len(list) != 1 || list[0].Revision != sequence || at != sequence {
			t.Errorf("got %+v at %d, want one entry at %d", list, at, sequence)
		}
	}
}

func TestDeletedKeyCanBeWrittenAgain(t *testing.T) {
	b := open(t, natsdtest.New(t))
	put(t, b, "vnid.42", "shop", "vnid.43", "web")
	for round := range 3 {
		if _, err := b.Update(soon(t), func(tx *bucket.Tx) error {
			tx.Delete("vnid.42")
			tx.Delete("vnid.99") // never was
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if _, exists := b.Get("vnid.42"); exists {
			t.Fatalf("round %d: deleted key exists", round)
		}
		put(t, b, "vnid.42", fmt.Sprint("owner", round))
		if e, exists := b.Get("vnid.42"); !exists || string(e.Value) != fmt.Sprint("owner", round) {
			t.Fatalf("round %d: got %q, %v", round, e.Value, exists)
		}
	}
	if s := b.Stats(); s.Conflicts != 0 {
		t.Errorf("got %d conflicts, want none", s.Conflicts)
	}
}

func TestTransactionThatFailsLeavesNothing(t *testing.T) {
	b := open(t, natsdtest.New(t))
	wrong := errors.New("no")
	for name, fn := range map[string]func(tx *bucket.Tx) error{
		"own error":       func(tx *bucket.Tx) error { tx.Put("vnid.1", nil); return wrong },
		"bad key":         func(tx *bucket.Tx) error { tx.Put("vnid.1", nil); tx.Put("a b.c", nil); return nil },
		"touch of absent": func(tx *bucket.Tx) error { tx.Put("vnid.1", nil); tx.Touch("vnid.2"); return nil },
		"too many": func(tx *bucket.Tx) error {
			for i := range bucket.MaxWrites + 1 {
				tx.Put(bucket.Key("vnid", fmt.Sprint(i)), nil)
			}
			return nil
		},
	} {
		if _, err := b.Update(soon(t), fn); err == nil {
			t.Errorf("%s: got no error", name)
		}
		if list, at := b.List(""); len(list) != 0 || at != 0 {
			t.Errorf("%s: got %v at %d, want nothing", name, list, at)
		}
	}
}

func TestConflictRepeatsTheTransactionOnTheNewState(t *testing.T) {
	server := natsdtest.New(t)
	one, two := open(t, server), open(t, server)
	put(t, one, "cursor.next", "0")
	var runs int
	_, err := one.Update(soon(t), func(tx *bucket.Tx) error {
		runs++
		if runs == 1 {
			put(t, two, "cursor.next", "1")
		}
		e, _ := tx.Get("cursor.next")
		tx.Put("cursor.next", append([]byte("after "), e.Value...))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if e, _ := one.Get("cursor.next"); string(e.Value) != "after 1" || runs != 2 {
		t.Errorf("got %q after %d runs, want \"after 1\" after 2", e.Value, runs)
	}
}

func TestTouchGuardsWhatWasOnlyRead(t *testing.T) {
	server := natsdtest.New(t)
	one, two := open(t, server), open(t, server)
	put(t, one, "isolation.mode", "subnet")
	var runs int
	_, err := one.Update(soon(t), func(tx *bucket.Tx) error {
		runs++
		if runs == 1 {
			put(t, two, "isolation.mode", "multitenant")
		}
		e, _ := tx.Get("isolation.mode")
		tx.Touch("isolation.mode")
		tx.Put("netnamespace.shop", e.Value)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if e, _ := one.Get("netnamespace.shop"); string(e.Value) != "multitenant" {
		t.Errorf("got %q, want what the other replica wrote", e.Value)
	}
}

// Four replicas give out numbers, as fast as they can, from one counter key
// and one claim key a number.
func TestReplicasNeverGiveOneNumberTwice(t *testing.T) {
	server := natsdtest.New(t)
	const replicas, each = 4, 50
	var all sync.WaitGroup
	for r := range replicas {
		b := open(t, server)
		all.Go(func() {
			for i := range each {
				owner := fmt.Sprintf("r%d-%d", r, i)
				if _, err := b.Update(soon(t), func(tx *bucket.Tx) error {
					next := len(tx.List("vnid."))
					tx.Put(bucket.Key("vnid", fmt.Sprintf("%05d", next)), []byte(owner))
					tx.Put(bucket.Key("netnamespace", owner), fmt.Append(nil, next))
					return nil
				}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b := open(t, server)
	claims, _ := b.List("vnid.")
	owners, _ := b.List("netnamespace.")
	if len(claims) != replicas*each || len(owners) != replicas*each {
		t.Fatalf("got %d claims of %d owners, want %d of each", len(claims), len(owners), replicas*each)
	}
	for _, o := range owners {
		var number int
		if _, err := fmt.Sscan(string(o.Value), &number); err != nil {
			t.Fatal(err)
		}
		if got := bucket.Key("netnamespace", string(claims[number].Value)); got != o.Key {
			t.Errorf("number %d: claim is of %s, but %s has it", number, got, o.Key)
		}
	}
}

func TestViewSurvivesRestartsOfTheServer(t *testing.T) {
	server := natsdtest.New(t)
	one, two := open(t, server), open(t, server)
	for round := range 3 {
		put(t, one, "vnid.1", fmt.Sprint("before", round))
		server.Stop()
		// A write that is under way while the server is away waits for it.
		wrote := make(chan uint64, 1)
		go func() { wrote <- put(t, one, "vnid.2", fmt.Sprint("during", round), "vnid.3", fmt.Sprint(round)) }()
		server.Start()
		sequence := <-wrote
		if err := two.Wait(soon(t), sequence); err != nil {
			t.Fatal(err)
		}
		if e, _ := two.Get("vnid.2"); string(e.Value) != fmt.Sprint("during", round) {
			t.Errorf("round %d: got %q", round, e.Value)
		}
	}
	if s := two.Stats(); s.Rebuilds != 1 {
		t.Errorf("got %d rebuilds of the view, want the first only", s.Rebuilds)
	}
}

func TestCommitIsRepublishedWithItsSequences(t *testing.T) {
	server := natsdtest.New(t)
	b := open(t, server)
	nc := server.Connect()
	sub, err := nc.SubscribeSync("damask.tenancy.v1.netnamespace.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	first := put(t, b, "vnid.42", "shop", "netnamespace.shop", "42")
	second := put(t, b, "netnamespace.shop", "43")
	for _, want := range []struct{ sequence, last uint64 }{{first, 0}, {second, first}} {
		msg, err := sub.NextMsgWithContext(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := msg.Header.Get("Nats-Sequence"); got != fmt.Sprint(want.sequence) {
			t.Errorf("got sequence %s, want %d", got, want.sequence)
		}
		if got := msg.Header.Get("Nats-Last-Sequence"); got != fmt.Sprint(want.last) {
			t.Errorf("got last sequence %s, want %d", got, want.last)
		}
	}
}

func TestTableKeepsObjectsAndFillsRevisions(t *testing.T) {
	b := open(t, natsdtest.New(t))
	table := bucket.NewTable[*tenancyv1.NetNamespace]("netnamespace")
	want := &tenancyv1.NetNamespace{Name: "a.b", Netid: 42, Labels: map[string]string{"x": "y", "z": "w"}, Revision: 7}
	sequence, err := b.Update(soon(t), func(tx *bucket.Tx) error {
		table.Put(tx, want, want.GetName())
		got, exists, err := table.Get(tx, "a.b")
		if err != nil || !exists || got.GetNetid() != 42 || got.GetRevision() != 0 {
			t.Errorf("inside: got %v, %v, %v", got, exists, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want.GetRevision() != 7 {
		t.Error("Put changed the caller's object")
	}
	want.Revision = sequence
	got, exists, err := table.Get(b, "a.b")
	if err != nil || !exists || !proto.Equal(got, want) {
		t.Fatalf("got %v, %v, %v, want %v", got, exists, err, want)
	}
	again, err := b.Update(soon(t), func(tx *bucket.Tx) error { table.Put(tx, got, "a.b"); return nil })
	if err != nil || again != sequence {
		t.Errorf("writing the same again: got sequence %d, %v, want %d", again, err, sequence)
	}
}
