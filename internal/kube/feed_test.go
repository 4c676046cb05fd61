package kube

import (
	"context"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func listen(t *testing.T, f *Feed) (queue, context.CancelFunc) {
	t.Helper()
	q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	t.Cleanup(q.ShutDown)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	if err := f.source().Start(ctx, q); err != nil {
		t.Fatal(err)
	}
	return q, cancel
}

// told takes as many names as are wanted from a queue, in order.
func told(t *testing.T, q queue, want ...string) {
	t.Helper()
	if q.Len() != len(want) {
		t.Errorf("%d names wait, want %q", q.Len(), want)
		return
	}
	var got []string
	for range want {
		r, _ := q.Get()
		q.Done(r)
		got = append(got, r.Name)
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("told of %q, want %q", got, want)
	}
}

func TestAFeedTellsAllOnceAndThenWhatChanges(t *testing.T) {
	stored := []types.NamespacedName{{Name: "a"}, {Name: "b"}}
	f := NewFeed(func() []types.NamespacedName { return stored })
	f.Changed(types.NamespacedName{Name: "before"}) // Nobody listens, and nothing is kept.
	first, stop := listen(t, f)
	told(t, first, "a", "b")
	stored = append(stored, types.NamespacedName{Name: "c"})
	second, _ := listen(t, f)
	told(t, second, "a", "b", "c")
	f.Changed(types.NamespacedName{Name: "b"}, types.NamespacedName{Name: "d"}, types.NamespacedName{Name: "b"})
	told(t, first, "b", "d")
	told(t, second, "b", "d")
	stop()
	for listening := 2; listening > 1; { // Its end is taken over beside us.
		f.mu.Lock()
		listening = len(f.queues)
		f.mu.Unlock()
	}
	f.Changed(types.NamespacedName{Name: "e"})
	told(t, first)
	told(t, second, "e")
}

func TestWhoWaitsIsKnownUntilItDoesNot(t *testing.T) {
	var w Waiting
	a, b := types.NamespacedName{Namespace: "shop", Name: "a"}, types.NamespacedName{Namespace: "shop", Name: "b"}
	w.Set(b, false)
	if w.Has(a) || len(w.All()) != 0 {
		t.Errorf("%v wait", w.All())
	}
	w.Set(a, true)
	w.Set(a, true)
	w.Set(b, true)
	w.Set(b, false)
	if all := w.All(); !w.Has(a) || w.Has(b) || !slices.Equal(all, []types.NamespacedName{a}) {
		t.Errorf("%v wait, want %v", all, a)
	}
}
