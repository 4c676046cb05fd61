package follow

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
)

// What there is of a name is known when the service has answered, also that it is
// nothing, and then in the next process, before the service answers.
func TestThatANameHasNothingIsKnownAfterARestart(t *testing.T) {
	server := natsdtest.New(t)
	s := newService(t, server)
	seen := s.put("shop", 42)
	path := filepath.Join(t.TempDir(), "cache")
	nc := server.Connect()
	expect := func(f *follower, name string, objects int, known bool) {
		t.Helper()
		if all, _, is := f.Of(name); len(all) != objects || is != known {
			t.Errorf("%s: %v, known %v", name, all, is)
		}
	}
	first := newFollower(t, nc, s, Options[namespace]{Cache: path})
	first.Want("shop")
	first.Want("empty")
	expect(first, "empty", 0, false)
	expect(first, "unwanted", 0, false)
	first.start().synced()
	expect(first, "empty", 0, true)
	if _, revision, _ := first.Of("shop"); revision != seen {
		t.Errorf("revision %d, want %d", revision, seen)
	}
	first.stop()

	s.setAway(true)
	second := newFollower(t, nc, s, Options[namespace]{Cache: path}).start()
	for _, name := range []string{"shop", "empty", "new"} {
		second.Want(name)
	}
	for _, name := range []string{"shop", "empty"} {
		if err := second.Known(soon(t), name); err != nil {
			t.Error(err)
		}
	}
	second.expect("shop=42")
	expect(second, "shop", 1, true)
	expect(second, "empty", 0, true)
	expect(second, "new", 0, false)
	ended := make(chan error, 1)
	go func() { ended <- second.Known(soon(t), "new") }()
	second.Drop("new")
	if err := <-ended; !errors.Is(err, ErrNotWanted) {
		t.Errorf("waiting for what is dropped: %v", err)
	}
	s.setAway(false)
	s.delete("shop")
	second.expect("shop gone")
	expect(second, "shop", 0, true)
}
