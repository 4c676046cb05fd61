package follow

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
	busv1 "github.com/damask-sdn/damask/proto/damask/bus/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

func namespaceOf(name string, netid uint32) namespace {
	return &tenancyv1.NetNamespace{Name: name, Netid: netid}
}

// bare is a follower of everything without a server.
func bare() *Follower[namespace] {
	return New(&nats.Conn{}, Source[namespace]{
		Service: "tenancy", Kind: "netnamespace",
		Name:     func(n namespace) string { return n.GetName() },
		Revision: func(n namespace) uint64 { return n.GetRevision() },
	}, Options[namespace]{All: true, Log: hclog.NewNullLogger()})
}

func message(subject, sequence, previous, operation string, data []byte) *nats.Msg {
	msg := nats.NewMsg(subject)
	msg.Header.Set("Nats-Sequence", sequence)
	msg.Header.Set("Nats-Last-Sequence", previous)
	if operation != "" {
		msg.Header.Set("KV-Operation", operation)
	}
	msg.Data = data
	return msg
}

// Whatever comes on the bus and as a head note, a follower neither dies nor
// goes back.
func FuzzBus(f *testing.F) {
	good, err := proto.Marshal(namespaceOf("shop", 42))
	if err != nil {
		f.Fatal(err)
	}
	note, err := proto.Marshal(&busv1.Head{Sequence: 7, Shards: make([]uint64, 64)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("shop", "7", "0", "", good, note)
	f.Add("a_2Eb", "8", "7", "DEL", []byte{}, []byte{})
	f.Add("a.b", "x", "-1", "PURGE", []byte{0xff}, []byte{0xff})
	f.Add("shop", "18446744073709551615", "18446744073709551614", "", good, note)
	f.Fuzz(func(t *testing.T, name, sequence, previous, operation string, data, note []byte) {
		fo := bare()
		in := fo.interests[""]
		if err := fo.applyList(fo.claim(), []namespace{{Name: "shop", Netid: 1, Revision: 5}}, 6); err != nil {
			t.Fatal(err)
		}
		fo.takeChange(in, message("damask.tenancy.v1.netnamespace."+name, sequence, previous, operation, data))
		fo.takeNote(&nats.Msg{Data: note})
		fo.judgeNote(fo.latestNote64())
		if in.objects["shop"].revision < 5 {
			t.Fatalf("got revision %d, want 5 or later", in.objects["shop"].revision)
		}
		for name, rec := range in.objects {
			if !rec.gone && rec.object.GetRevision() != rec.revision {
				t.Fatalf("%s: object has revision %d, record %d", name, rec.object.GetRevision(), rec.revision)
			}
		}
	})
}

// latestNote64 answers the latest note, or an empty one.
func (f *Follower[T]) latestNote64() []uint64 {
	if f.latestNote == nil {
		return make([]uint64, 64)
	}
	return f.latestNote
}

func FuzzCache(f *testing.F) {
	object, err := proto.Marshal(namespaceOf("shop", 42))
	if err != nil {
		f.Fatal(err)
	}
	good, err := proto.Marshal(&busv1.Cache{
		Service: "tenancy", Kind: "netnamespace",
		Objects: []*busv1.CachedObject{{Name: "shop", Revision: 3, Object: object}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "cache")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		fo := New(&nats.Conn{}, bare().source, Options[namespace]{All: true, Cache: path, Log: hclog.NewNullLogger()})
		fo.saved = false
		if err := fo.saveCache(); err != nil {
			t.Fatal(err)
		}
		again := New(&nats.Conn{}, bare().source, Options[namespace]{All: true, Cache: path, Log: hclog.NewNullLogger()})
		if got, want := len(again.Snapshot()), len(fo.Snapshot()); got != want {
			t.Fatalf("got %d objects from the written cache, want %d", got, want)
		}
	})
}

func TestSnapshotOlderThanAChangeDoesNotUndoIt(t *testing.T) {
	f := bare()
	in := f.interests[""]
	claims := f.claim()
	change := func(name, sequence, previous, operation string) {
		data, err := proto.Marshal(namespaceOf(name, 42))
		if err != nil {
			t.Fatal(err)
		}
		f.takeChange(in, message("damask.tenancy.v1.netnamespace."+name, sequence, previous, operation, data))
	}
	// While the service answers as of 10, the bus is at 13.
	change("gone", "11", "9", "DEL")
	change("new", "12", "0", "")
	change("changed", "13", "8", "")
	if err := f.applyList(claims, []namespace{
		{Name: "gone", Revision: 9}, {Name: "changed", Netid: 1, Revision: 8}, {Name: "same", Revision: 3},
	}, 10); err != nil {
		t.Fatal(err)
	}
	got := f.Snapshot()
	if len(got) != 3 || got["changed"].GetNetid() != 42 || got["new"] == nil || got["same"] == nil {
		t.Errorf("got %v", got)
	}
	if !in.certain() {
		t.Error("the follower is in doubt without a reason")
	}
}

func TestSnapshotOfALaggingReplicaIsNotEnough(t *testing.T) {
	f := bare()
	in := f.interests[""]
	if err := f.applyList(f.claim(), []namespace{{Name: "shop", Netid: 42, Revision: 8}}, 10); err != nil {
		t.Fatal(err)
	}
	in.doubt(12)
	if err := f.applyList(f.claim(), nil, 9); err == nil {
		t.Error("a snapshot as of 9 was accepted after one as of 10")
	}
	if err := f.applyList(f.claim(), nil, 11); err == nil {
		t.Error("a snapshot as of 11 was accepted, but 12 is missing")
	}
	if _, exists := f.Get("shop"); !exists || in.certain() {
		t.Error("an old snapshot was applied")
	}
	if err := f.applyList(f.claim(), nil, 12); err != nil || !in.certain() {
		t.Errorf("got %v, certain %v for a snapshot that is new enough", err, in.certain())
	}
	if _, exists := f.Get("shop"); exists {
		t.Error("the new snapshot was not applied")
	}
}

func TestOldSnapshotsForLongMeanThatTheStoreWasReplaced(t *testing.T) {
	f, told := bare(), 0
	f.options.OnReplaced = func() { told++ }
	if err := f.applyList(f.claim(), []namespace{{Name: "shop", Netid: 42, Revision: 800}, {Name: "old", Revision: 900}}, 1000); err != nil {
		t.Fatal(err)
	}
	f.interests[""].doubt(0)
	fresh := []namespace{{Name: "shop", Netid: 43, Revision: 3}}
	if err := f.applyList(f.claim(), fresh, 4); err == nil {
		t.Fatal("an old snapshot was accepted at once")
	}
	f.staleSince = time.Now().Add(-time.Hour)
	if err := f.applyList(f.claim(), fresh, 4); err != nil {
		t.Fatal(err)
	}
	got := f.Snapshot()
	if len(got) != 1 || got["shop"].GetNetid() != 43 {
		t.Errorf("got %v, want the new store's only object", got)
	}
	if told != 1 {
		t.Errorf("%d times told that the store was replaced", told)
	}
}

// TestAnObjectWithAnOlderRevisionIsOfAnotherStore, also one that has more changes already than
// the one that was lost.
func TestAnObjectWithAnOlderRevisionIsOfAnotherStore(t *testing.T) {
	f, told := bare(), 0
	f.options.OnReplaced = func() { told++ }
	for i, step := range []struct{ revision, sequence uint64 }{{5, 10}, {5, 11}, {12, 12}, {3, 20}} {
		f.interests[""].doubt(0)
		if err := f.applyList(f.claim(), []namespace{{Name: "shop", Netid: uint32(i), Revision: step.revision}}, step.sequence); err != nil {
			t.Fatal(err)
		}
		if want := i / 3; told != want {
			t.Errorf("after revision %d at %d: %d times told that the store was replaced, want %d", step.revision, step.sequence, told, want)
		}
	}
}

// TestAnotherStoreIsFollowedWhenItHasHadTimeToFill has the service's store lost: the new one has
// more changes than the one before, and not yet what that had.
func TestAnotherStoreIsFollowedWhenItHasHadTimeToFill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, told := bare(), 0
		f.pace, f.options.OnReplaced = defaultPace(), func() { told++ }
		in := f.interests[""]
		note := func(created int64) {
			data, err := proto.Marshal(&busv1.Head{Shards: make([]uint64, 64), Created: created})
			if err != nil {
				t.Fatal(err)
			}
			f.takeNote(&nats.Msg{Data: data})
		}
		if err := f.applyList(f.claim(), []namespace{{Name: "shop", Netid: 42, Revision: 8}}, 10); err != nil {
			t.Fatal(err)
		}
		for i, created := range []int64{0, 100, 100, 0, 200, 100, 200} {
			if note(created); told != i/4 {
				t.Errorf("note %d, of a store of %d: %d times told that it is another", i, created, told)
			}
		}
		time.Sleep(f.pace.staleAfter - time.Second)
		if synctest.Wait(); !in.certain() || in.objects["shop"].revision != 8 {
			t.Errorf("before the store had time to fill: certain %t, %+v", in.certain(), in.objects["shop"])
		}
		time.Sleep(time.Second)
		if synctest.Wait(); in.certain() {
			t.Error("nobody asks what the new store has")
		}
		if err := f.applyList(f.claim(), []namespace{{Name: "shop", Netid: 42, Revision: 3}}, 5); err != nil {
			t.Error(err)
		}
		f.takeChange(in, message("damask.tenancy.v1.netnamespace.shop", "6", "3", "", protoOf(t, namespaceOf("shop", 43))))
		if shop, _ := f.Get("shop"); shop.GetNetid() != 43 || told != 1 {
			t.Errorf("%+v after a change of the new store; %d times told", shop, told)
		}
	})
}

func protoOf(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestTombstonesDoNotPileUp(t *testing.T) {
	f := bare()
	in := f.interests[""]
	if err := f.applyList(f.claim(), nil, 1); err != nil {
		t.Fatal(err)
	}
	const n = 3 * maxTombstones
	for i := range n {
		f.takeChange(in, message(fmt.Sprintf("damask.tenancy.v1.netnamespace.n%d", i), fmt.Sprint(i+2), "0", "DEL", nil))
	}
	if len(in.objects) > maxTombstones || in.tombstones != len(in.objects) {
		t.Errorf("got %d records, counted %d tombstones", len(in.objects), in.tombstones)
	}
	in.doubt(0)
	if err := f.applyList(f.claim(), []namespace{{Name: "n0", Revision: 1}}, 1); err == nil {
		t.Error("a snapshot was accepted that brings back what was deleted")
	}
}

func TestNestedNamesAreFollowedByTheirFirst(t *testing.T) {
	server := natsdtest.New(t)
	s := newService(t, server)
	pods := bucket.NewTable[*tenancyv1.Pod]("pod")
	put := func(namespace, name, node string) {
		if _, err := s.Update(soon(t), func(tx *bucket.Tx) error {
			pods.Put(tx, &tenancyv1.Pod{Namespace: namespace, Name: name, Node: node}, namespace, name)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	put("shop", "web.0", "n1")
	put("bank", "db", "n1")
	var lists atomic.Int32
	f := New(server.Connect(), Source[*tenancyv1.Pod]{
		Service: "tenancy", Kind: "pod", Nested: true,
		Name:     func(p *tenancyv1.Pod) string { return p.GetNamespace() + "/" + p.GetName() },
		Revision: func(p *tenancyv1.Pod) uint64 { return p.GetRevision() },
		List: func(_ context.Context, namespaces []string) (all []*tenancyv1.Pod, sequence uint64, err error) {
			lists.Add(1)
			snapshot := s.Snapshot()
			for _, namespace := range namespaces {
				for pod, err := range pods.ScanUnder(snapshot, namespace) {
					if err != nil {
						return nil, 0, err
					}
					all = append(all, pod)
				}
			}
			return all, snapshot.Sequence(), nil
		},
	}, Options[*tenancyv1.Pod]{Log: hclog.NewNullLogger()})
	f.Want("shop")
	start(t, f.Run)
	if err := f.Synced(soon(t)); err != nil {
		t.Fatal(err)
	}
	put("shop", "web.1", "n2")
	put("bank", "cache", "n2")
	put("shop", "web.0", "n3")
	if pod, err := f.Await(soon(t), "shop/web.1"); err != nil || pod.GetNode() != "n2" {
		t.Errorf("got %v, %v", pod, err)
	}
	if err := f.until(soon(t), "the move", func() (bool, error) {
		return f.interests["shop"].objects["shop/web.0"].object.GetNode() == "n3", nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := f.Snapshot(); len(got) != 2 || lists.Load() != 1 {
		t.Errorf("got %v by %d lists, want the two pods of shop by one", got, lists.Load())
	}
}
