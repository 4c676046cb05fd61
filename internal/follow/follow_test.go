package follow

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

type namespace = *tenancyv1.NetNamespace

var table = bucket.NewTable[namespace]("netnamespace")

// service is a control service: a bucket, and List as its gRPC method does it.
type service struct {
	t testing.TB
	*bucket.Bucket

	mu    sync.Mutex
	away  bool
	lists int
	asked []string
	tried chan struct{} // one for each List, as far as somebody looks
}

func newService(t testing.TB, server *natsdtest.Server) *service {
	t.Helper()
	js, nc := server.JetStream()
	b, err := bucket.Open(t.Context(), js, nc, bucket.Config{Name: "damask_tenancy", Subject: "damask.tenancy.v1"}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	start(t, b.Run)
	if err := b.Ready(soon(t)); err != nil {
		t.Fatal(err)
	}
	return &service{t: t, Bucket: b, tried: make(chan struct{}, 100)}
}

// start runs something as long as the test.
func start(t testing.TB, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (s *service) list(_ context.Context, names []string) ([]namespace, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists++
	select {
	case s.tried <- struct{}{}:
	default:
	}
	s.asked = append(s.asked, names...)
	if s.away {
		return nil, 0, errors.New("service is away")
	}
	snapshot := s.Snapshot()
	if names == nil {
		all, err := table.List(snapshot)
		return all, snapshot.Sequence(), err
	}
	var some []namespace
	for _, name := range names {
		if object, exists, err := table.Get(snapshot, name); err != nil {
			return nil, 0, err
		} else if exists {
			some = append(some, object)
		}
	}
	return some, snapshot.Sequence(), nil
}

func (s *service) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func (s *service) listed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lists
}

func (s *service) put(name string, netid uint32) uint64 {
	s.t.Helper()
	sequence, err := s.Update(soon(s.t), func(tx *bucket.Tx) error {
		table.Put(tx, &tenancyv1.NetNamespace{Name: name, Netid: netid}, name)
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return sequence
}

func (s *service) delete(name string) {
	s.t.Helper()
	if _, err := s.Update(soon(s.t), func(tx *bucket.Tx) error { table.Delete(tx, name); return nil }); err != nil {
		s.t.Fatal(err)
	}
}

func (s *service) source() Source[namespace] {
	return Source[namespace]{
		Service: "tenancy", Kind: "netnamespace", List: s.list,
		Name:     func(n namespace) string { return n.GetName() },
		Revision: func(n namespace) uint64 { return n.GetRevision() },
	}
}

// follower is a follower under test and what it told.
type follower struct {
	*Follower[namespace]
	t      testing.TB
	stop   func()
	events chan Event[namespace]
}

func newFollower(t testing.TB, nc *nats.Conn, s *service, options Options[namespace]) *follower {
	t.Helper()
	events := make(chan Event[namespace], 10000)
	options.OnChange = func(e Event[namespace]) { events <- e }
	options.Log = hclog.NewNullLogger()
	f := &follower{Follower: New(nc, s.source(), options), t: t, events: events}
	f.pace.retryMax = 100 * time.Millisecond
	f.pace.save = 10 * time.Millisecond
	return f
}

func (f *follower) start() *follower {
	f.t.Helper()
	f.stop = start(f.t, f.Run)
	return f
}

func (f *follower) synced() *follower {
	f.t.Helper()
	if err := f.Synced(soon(f.t)); err != nil {
		f.t.Fatal(err)
	}
	return f
}

// expect waits for the next events, each "name=netid" or "name gone".
func (f *follower) expect(want ...string) {
	f.t.Helper()
	for _, w := range want {
		select {
		case e := <-f.events:
			got := fmt.Sprintf("%s=%d", e.Name, e.Object.GetNetid())
			if e.Deleted {
				got = e.Name + " gone"
			} else if e.Revision != e.Object.GetRevision() {
				f.t.Errorf("%s: event has revision %d, object %d", e.Name, e.Revision, e.Object.GetRevision())
			}
			if got != w {
				f.t.Fatalf("got event %q, want %q", got, w)
			}
		case <-soon(f.t).Done():
			f.t.Fatalf("no event, want %q", w)
		}
	}
}

// quiet checks that nothing more was told.
func (f *follower) quiet() {
	f.t.Helper()
	select {
	case e := <-f.events:
		f.t.Fatalf("got event %+v, want none", e)
	default:
	}
}

// deafen makes a follower miss every change from now on, as if the server had
// lost its subscriptions, without any sign of it.
func (f *follower) deafen() {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, in := range f.interests {
		if err := in.sub.Unsubscribe(); err != nil {
			f.t.Fatal(err)
		}
	}
}

// hear ends deafen.
func (f *follower) hear() {
	f.t.Helper()
	f.mu.Lock()
	for _, in := range f.interests {
		if err := f.subscribe(in); err != nil {
			f.t.Fatal(err)
		}
	}
	f.mu.Unlock()
	if err := f.nc.Flush(); err != nil {
		f.t.Fatal(err)
	}
}

func TestSnapshotThenChangesInOrder(t *testing.T) {
	server := natsdtest.New(t)
	s := newService(t, server)
	s.put("default", 0)
	f := newFollower(t, server.Connect(), s, Options[namespace]{All: true}).start().synced()
	f.expect("default=0")
	s.put("shop", 42)
	s.put("shop", 43)
	s.put("infra.ocp.cn", 44)
	s.delete("shop")
	s.put("shop", 45)
	f.expect("shop=42", "shop=43", "infra.ocp.cn=44", "shop gone", "shop=45")
	if got, exists := f.Get("shop"); !exists || got.GetNetid() != 45 {
		t.Errorf("got %v, %v, want 45", got, exists)
	}
	if got := len(f.Snapshot()); got != 3 {
		t.Errorf("got %d objects, want 3", got)
	}
	if got := s.listed(); got != 1 {
		t.Errorf("got %d lists, want one", got)
	}
}

func TestInterestIsLimitedToWhatIsWanted(t *testing.T) {
	server := natsdtest.New(t)
	s := newService(t, server)
	s.put("shop", 42)
	s.put("web", 43)
	f := newFollower(t, server.Connect(), s, Options[namespace]{}).start()
	if _, _, err := f.Find(soon(t), "shop"); !errors.Is(err, ErrNotWanted) {
		t.Errorf("got %v, want ErrNotWanted", err)
	}
	f.Want("shop")
	f.Want("shop")
	f.Want("later")
	f.synced().expect("shop=42")
	if _, exists, err := f.Find(soon(t), "later"); exists || err != nil {
		t.Errorf("got %v, %v, want that it does not exist", exists, err)
	}
	s.put("web", 53)
	s.put("later", 44)
	if got, err := f.Await(soon(t), "later"); err != nil || got.GetNetid() != 44 {
		t.Errorf("got %v, %v, want 44", got, err)
	}
	f.expect("later=44")
	s.put("shop", 52)
	f.expect("shop=52")
	f.Drop("shop")
	s.put("shop", 62)
	s.delete("later")
	f.expect("later gone")
	if _, exists := f.Get("shop"); exists {
		t.Error("dropped object is still known")
	}
	f.quiet()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.asked {
		if name != "shop" && name != "later" {
			t.Errorf("List was asked for %q", name)
		}
	}
}

func TestMissedChangeIsSeenByTheNextOneOfItsKey(t *testing.T) {
	server := natsdtest.New(t)
	s := newService(t, server)
	s.put("shop", 42)
	s.put("web", 43)
	f := newFollower(t, server.Connect(), s, Options[namespace]{All: true})
	f.pace.noteGrace = time.Hour // no help from head notes
	f.start().synced().expect("shop=42", "web=43")
	f.deafen()
	s.put("shop", 52)
	s.delete("web")
	f.hear()
	s.put("shop", 62) // names a predecessor that f never saw
	f.expect("shop=62", "web gone")
	f.quiet()
}

func TestLastChangeThatWasLostIsHealedByAHeadNote(t *testing.T) {
	for name, all := range map[string]bool{"everything": true, "by name": false} {
		t.Run(name, func(t *testing.T) {
			server := natsdtest.New(t)
			s := newService(t, server)
			s.put("shop", 42)
			f := newFollower(t, server.Connect(), s, Options[namespace]{All: all})
			f.pace.noteEvery = time.Millisecond
			f.start()
			f.Want("shop")
			f.synced().expect("shop=42")
			f.deafen()
			s.put("shop", 43)
			f.expect("shop=43")
			s.delete("shop")
			f.expect("shop gone")
		})
	}
}

func TestNotesOfOtherKindsCauseNoList(t *testing.T) {
	server := natsdtest.New(t)
	s := newService(t, server)
	s.put("shop", 42)
	nc := server.Connect()
	f := newFollower(t, nc, s, Options[namespace]{All: true})
	f.pace.noteGrace = 0
	f.start().synced().expect("shop=42")
	notes, err := nc.SubscribeSync("damask.tenancy.v1.head.*")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(soon(t), func(tx *bucket.Tx) error {
		for i := range 100 {
			tx.Put(bucket.Key("vnid", fmt.Sprint(i)), []byte("shop"))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for !seen["damask.tenancy.v1.head.vnid"] || !seen["damask.tenancy.v1.head.netnamespace"] {
		msg, err := notes.NextMsgWithContext(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		seen[msg.Subject] = true
	}
	s.put("shop", 43)
	f.expect("shop=43")
	if got := s.listed(); got != 1 {
		t.Errorf("got %d lists, want one", got)
	}
}

func TestRestartOfTheServerIsHealed(t *testing.T) {
	server := natsdtest.New(t)
	s := newService(t, server)
	s.put("shop", 42)
	f := newFollower(t, server.Connect(), s, Options[namespace]{All: true}).start().synced()
	f.expect("shop=42")
	for round := range uint32(3) {
		server.Stop()
		server.Start()
		s.put("shop", 50+round)
		s.put("web", 60+round)
		deadline := soon(t)
		if err := f.until(deadline, "both", func() (bool, error) {
			in := f.interests[""]
			return in.objects["shop"].object.GetNetid() == 50+round && in.objects["web"].object.GetNetid() == 60+round, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServiceThatIsAwayStopsNobody(t *testing.T) {
	server := natsdtest.New(t)
	s := newService(t, server)
	s.put("shop", 42)
	s.setAway(true)
	f := newFollower(t, server.Connect(), s, Options[namespace]{}).start()
	f.Want("shop")
	f.Want("web")
	<-s.tried
	<-s.tried
	s.put("web", 43) // is taken over even before the first snapshot
	f.expect("web=43")
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, _, err := f.Find(short, "shop"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that nothing is known in time", err)
	}
	s.setAway(false)
	f.synced().expect("shop=42")
}

func TestCacheServesBeforeTheServiceDoesAndThenOnlyDifferencesAreTold(t *testing.T) {
	server := natsdtest.New(t)
	s := newService(t, server)
	for i, name := range []string{"kept", "changed", "deleted", "dropped"} {
		s.put(name, 40+uint32(i))
	}
	path := filepath.Join(t.TempDir(), "not", "there", "yet")
	nc := server.Connect()
	wanted := []string{"kept", "changed", "deleted", "dropped"}
	first := newFollower(t, nc, s, Options[namespace]{Cache: path})
	for _, name := range wanted {
		first.Want(name)
	}
	first.start().synced().stop()

	s.setAway(true)
	s.put("changed", 51)
	s.delete("deleted")
	second := newFollower(t, nc, s, Options[namespace]{Cache: path}).start()
	for _, name := range wanted[:3] {
		second.Want(name)
	}
	second.expect("kept=40", "changed=41", "deleted=42")
	if got, exists, err := second.Find(soon(t), "changed"); err != nil || !exists || got.GetNetid() != 41 {
		t.Errorf("got %v, %v, %v, want what the cache has", got, exists, err)
	}
	if _, exists := second.Get("dropped"); exists {
		t.Error("an object that nobody wants is in the copy")
	}
	s.setAway(false)
	second.synced()
	got := map[string]bool{}
	for range 2 {
		e := <-second.events
		got[fmt.Sprint(e.Name, e.Deleted)] = true
	}
	if !got["changedfalse"] || !got["deletedtrue"] {
		t.Errorf("got events %v", got)
	}
	second.quiet()
}

func TestUnusableCacheIsIgnored(t *testing.T) {
	server := natsdtest.New(t)
	s := newService(t, server)
	s.put("shop", 42)
	for name, content := range map[string]string{"empty": "", "garbage": "\xff\xff\xff", "of another kind": "\x0a\x04ipam"} {
		path := filepath.Join(t.TempDir(), "cache")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		f := newFollower(t, server.Connect(), s, Options[namespace]{All: true, Cache: path}).start().synced()
		f.expect("shop=42")
		f.stop()
		again := newFollower(t, server.Connect(), s, Options[namespace]{All: true, Cache: path})
		if got, exists := again.Get("shop"); !exists || got.GetNetid() != 42 {
			t.Errorf("%s: got %v, %v from the new cache, want 42", name, got, exists)
		}
		if f.Cached() || !again.Cached() {
			t.Errorf("%s: cached is %v, and %v with the new cache", name, f.Cached(), again.Cached())
		}
	}
}
