package bucket_test

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
)

// index is the simplest observer: what the bucket holds, as a map.
type index struct {
	mu     sync.Mutex
	keys   map[string]string
	resets int
}

func (x *index) observe(changes []bucket.Change, reset bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if reset {
		x.keys = map[string]string{}
		x.resets++
	}
	for _, c := range changes {
		if c.Deleted {
			delete(x.keys, c.Key)
		} else {
			x.keys[c.Key] = string(c.Value)
		}
	}
}

func (x *index) copy() map[string]string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return maps.Clone(x.keys)
}

func openObserved(t *testing.T, server *natsdtest.Server) (*bucket.Bucket, *index) {
	t.Helper()
	x := &index{}
	js, nc := server.JetStream()
	observed := cfg
	observed.Observe = x.observe
	b, err := bucket.Open(t.Context(), js, nc, observed, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	run(t, b)
	return b, x
}

func TestObserverIsNeverBehindAnAnswer(t *testing.T) {
	server := natsdtest.New(t)
	b, x := openObserved(t, server)
	for i := range 20 {
		put(t, b, fmt.Sprintf("vnid.%d", i), "owner", "cursor.default", fmt.Sprint(i))
		if got := x.copy()[fmt.Sprintf("vnid.%d", i)]; got != "owner" {
			t.Fatalf("after the answer to write %d the observer has %q", i, got)
		}
	}
	if _, err := b.Update(soon(t), func(tx *bucket.Tx) error {
		tx.Delete("vnid.3")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	entries, _ := b.List("")
	for _, e := range entries {
		want[e.Key] = string(e.Value)
	}
	if got := x.copy(); !maps.Equal(got, want) || len(got) != 20 {
		t.Errorf("the observer has %v, the bucket %v", got, want)
	}
	// A replica that starts later is told everything at once.
	if _, later := openObserved(t, server); !maps.Equal(later.copy(), want) || later.resets != 1 {
		t.Errorf("a later observer has %v after %d resets, want %v", later.copy(), later.resets, want)
	}
}

func TestRefreshSeesWhatAnotherReplicaCommitted(t *testing.T) {
	server := natsdtest.New(t)
	one, two := open(t, server), open(t, server)
	for i := range 50 {
		key := fmt.Sprintf("vnid.%d", i)
		put(t, one, key, "owner")
		if err := two.Refresh(soon(t)); err != nil {
			t.Fatal(err)
		}
		if _, exists := two.Get(key); !exists {
			t.Fatalf("%s is not there after a refresh", key)
		}
	}
}

func TestRevisionSinceIsThatOfTheKey(t *testing.T) {
	b := open(t, natsdtest.New(t))
	commit := put(t, b, "vnid.42", "shop", "netnamespace.shop", "42")
	if got := b.RevisionSince("vnid.42", commit); got != commit-1 {
		t.Errorf("the first of two keys has revision %d, want %d", got, commit-1)
	}
	if got := b.RevisionSince("netnamespace.shop", commit); got != commit {
		t.Errorf("the last key has revision %d, want %d", got, commit)
	}
	later := put(t, b, "vnid.42", strings.Repeat("x", 3))
	if got := b.RevisionSince("vnid.42", commit); got != commit || later <= commit {
		t.Errorf("a key that was written again has revision %d, want the commit's %d", got, commit)
	}
}
