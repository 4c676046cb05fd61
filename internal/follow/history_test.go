package follow

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
)

// TestMain lowers the number of histories: each takes some time, because
// it runs against a real server. -rapid.checks on the command line wins.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		if err := flag.Set("rapid.checks", "40"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// history is a follower that lives through random events, and the model: what
// the service owns, and what the follower is to follow.
type history struct {
	server *natsdtest.Server
	proxy  *natsdtest.Proxy
	nc     *nats.Conn
	s      *service
	all    bool
	cache  string

	model  map[string]uint32
	wanted map[string]bool
	deaf   bool

	f    *Follower[namespace]
	stop func()
	// replay is a copy that is kept by the events alone; told is the highest
	// revision that was told of each name.
	replay   map[string]uint32
	problems chan string
}

func (h *history) begin(t testing.TB) {
	h.replay = make(map[string]uint32)
	told := make(map[string]uint64)
	h.problems = make(chan string, 100)
	h.f = New(h.nc, h.s.source(), Options[namespace]{
		All: h.all, Cache: h.cache, Log: hclog.NewNullLogger(),
		OnChange: func(e Event[namespace]) {
			if e.Revision < told[e.Name] {
				h.problems <- fmt.Sprintf("%s: revision %d after %d", e.Name, e.Revision, told[e.Name])
			}
			told[e.Name] = e.Revision
			if _, known := h.replay[e.Name]; e.Deleted && !known {
				h.problems <- e.Name + " was deleted twice"
			}
			if delete(h.replay, e.Name); !e.Deleted {
				h.replay[e.Name] = e.Object.GetNetid()
			}
		},
	})
	h.f.pace.retryMax = 50 * time.Millisecond
	h.f.pace.noteEvery = 20 * time.Millisecond
	h.f.pace.save = time.Millisecond
	for name := range h.wanted {
		h.f.Want(name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.f.Run(ctx) }()
	h.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func (h *history) step(t *rapid.T, tb testing.TB) {
	name := fmt.Sprintf("n.%d", rapid.IntRange(0, 9).Draw(t, "name"))
	switch rapid.SampledFrom([]string{"put", "put", "put", "delete", "deafen", "hear", "cut", "away", "back", "want", "drop", "restart"}).Draw(t, "step") {
	case "put":
		netid := rapid.Uint32Range(10, 20).Draw(t, "netid")
		h.s.put(name, netid)
		h.model[name] = netid
	case "delete":
		h.s.delete(name)
		delete(h.model, name)
	case "deafen":
		h.setDeaf(tb, true)
	case "hear":
		h.setDeaf(tb, false)
	case "cut":
		h.proxy.Cut()
	case "away":
		h.s.setAway(true)
	case "back":
		h.s.setAway(false)
	case "want":
		h.wanted[name] = true
		h.f.Want(name)
	case "drop":
		delete(h.wanted, name)
		h.f.Drop(name)
	case "restart":
		h.stop()
		h.deaf = false
		h.begin(tb)
	}
}

// setDeaf makes the follower miss changes without any sign of it, or ends that.
func (h *history) setDeaf(tb testing.TB, deaf bool) {
	tb.Helper()
	if h.deaf == deaf {
		return
	}
	h.deaf = deaf
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	for _, in := range h.f.interests {
		if in.sub != nil {
			_ = in.sub.Unsubscribe()
			in.sub = nil
		}
		if !deaf {
			if err := h.f.subscribe(in); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

// expected answers what the copy is to be in the end.
func (h *history) expected() map[string]uint32 {
	want := make(map[string]uint32)
	for name, netid := range h.model {
		if h.all || h.wanted[name] {
			want[name] = netid
		}
	}
	return want
}

func (h *history) end(t *rapid.T, tb testing.TB) {
	h.s.setAway(false)
	h.setDeaf(tb, false)
	want := h.expected()
	copied := func() map[string]uint32 {
		got := make(map[string]uint32)
		for name, object := range h.f.Snapshot() {
			got[name] = object.GetNetid()
		}
		return got
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for !maps.Equal(copied(), want) {
		h.f.mu.Lock()
		changed := h.f.changed
		h.f.mu.Unlock()
		if maps.Equal(copied(), want) {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("got %v, want %v", copied(), want)
		}
	}
	h.stop()
	// Stopping ends tell; what it still had to tell, it would have told.
	for _, e := range h.f.queue {
		h.f.options.OnChange(e)
	}
	maps.DeleteFunc(h.replay, func(name string, _ uint32) bool { return !h.all && !h.wanted[name] })
	if !maps.Equal(h.replay, want) {
		t.Fatalf("the events lead to %v, want %v", h.replay, want)
	}
	select {
	case problem := <-h.problems:
		t.Fatal(problem)
	default:
	}
}

func TestRandomHistoriesEndInTheServicesState(t *testing.T) {
	server := natsdtest.New(t)
	proxy := natsdtest.NewProxy(t, server)
	nc, err := nats.Connect(proxy.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(5*time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.IgnoreDiscoveredServers(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	s := newService(t, server)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		h := &history{
			server: server, proxy: proxy, nc: nc, s: s,
			all: rapid.Bool().Draw(rt, "everything"), cache: filepath.Join(t.TempDir(), fmt.Sprint("cache", run)),
			model: make(map[string]uint32), wanted: make(map[string]bool),
		}
		for _, object := range mustList(t, s) {
			h.model[object.GetName()] = object.GetNetid()
		}
		h.begin(t)
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			h.step(rt, t)
		}
		h.end(rt, t)
	})
}

func mustList(t testing.TB, s *service) []namespace {
	t.Helper()
	s.setAway(false)
	objects, _, err := s.list(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}
