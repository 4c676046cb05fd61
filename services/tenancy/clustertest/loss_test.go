package clustertest

import (
	"context"
	"fmt"
	"testing"
)

func TestAStoreThatWasLostGetsItsVNIDsFromTheObjects(t *testing.T) {
	w := newWorld(t)
	stop := w.replica()
	before := map[string]uint32{}
	for i := range 5 {
		object := w.create(fmt.Sprintf("tenant-%d", i))
		before[object.Name] = object.NetID
	}
	w.moved("tenant-1", "join:tenant-0", func(n uint32) bool { return n == before["tenant-0"] })
	w.moved("tenant-2", "global", func(n uint32) bool { return n == 0 })
	before["tenant-1"], before["tenant-2"] = before["tenant-0"], 0

	restored := func(how string) {
		t.Helper()
		op := w.operator()
		fresh := w.create("new-" + how)
		for name, number := range before {
			if fresh.NetID == number {
				t.Errorf("%s: a new namespace got %s's VNID %d", how, name, number)
			}
			w.until(how+": "+name, func(ctx context.Context) (string, bool) {
				stored, object := w.stored(ctx, op, name), w.object(ctx, name)
				return fmt.Sprint(stored, object), stored != nil && stored.GetNetid() == number && object.NetID == number
			})
		}
	}
	w.loseStore()
	restored("while-it-ran")
	stop()
	w.loseStore()
	w.replica()
	restored("while-it-was-away")
}

func TestWithoutTheAPIServerNothingIsLostAndThenAllIsSeen(t *testing.T) {
	w := newWorld(t)
	stop := w.replica()
	shop := w.create("shop")
	w.create("old")
	w.cluster.StopServer()
	op := w.operator()
	if stored := w.stored(w.ctx(), op, "shop"); stored.GetNetid() != shop.NetID {
		t.Errorf("while the API server is away the store has %v", stored)
	}
	stop() // What changes now, nobody is told of.
	w.cluster.StartServer(t)
	w.cluster.DeleteNamespace(t, "old")
	w.cluster.Kubectl(t, "create", "namespace", "new")
	w.cluster.Kubectl(t, "delete", "netnamespace", "shop")
	w.replica()
	op = w.operator()
	w.numbered("new")
	if again := w.numbered("shop"); again.NetID != shop.NetID {
		t.Errorf("shop has VNID %d, before %d", again.NetID, shop.NetID)
	}
	w.until("the end of old", func(ctx context.Context) (string, bool) {
		return fmt.Sprint(w.stored(ctx, op, "old")), w.stored(ctx, op, "old") == nil && w.object(ctx, "old").Name == ""
	})
}

func TestTheOtherReplicaTakesOver(t *testing.T) {
	w := newWorld(t)
	first := w.replica()
	shop := w.create("shop")
	w.replica()
	first()
	w.create("web")
	w.moved("web", "join:shop", func(n uint32) bool { return n == shop.NetID })
}
