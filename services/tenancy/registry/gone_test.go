package registry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/catchup"
)

// replicas starts registries that write one bucket, each with a connection and
// a view of its own.
func replicas(t *testing.T, n int) []*Registry {
	t.Helper()
	return replicasTelling(t, n, func([]bucket.Change) {})
}

// replicasTelling is replicas, each of which tells of the changes that it sees.
func replicasTelling(t *testing.T, n int, tell func([]bucket.Change)) []*Registry {
	t.Helper()
	server := natsdtest.New(t)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	var all []*Registry
	for range n {
		js, nc := server.JetStream()
		index := NewIndex()
		b, err := bucket.Open(ctx, js, nc, bucket.Config{Name: "pods", Subject: "pods.v1", Observe: func(changes []bucket.Change, reset bool) {
			index.Observe(changes, reset)
			tell(changes)
		}}, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() { _ = b.Run(ctx) })
		if err := b.Ready(soon(t)); err != nil {
			t.Fatal(err)
		}
		all = append(all, New(b, index, time.Now))
	}
	return all
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func podOn(node string, i int) *tenancyv1.Pod {
	return &tenancyv1.Pod{
		Namespace: "shop", Name: fmt.Sprintf("%s-%d", node, i), Node: node,
		SandboxId: fmt.Sprint("sandbox-", i), Ips: []string{"10.128.0.2"},
	}
}

func podsOn(node string, n int) []*tenancyv1.Pod {
	pods := make([]*tenancyv1.Pod, n)
	for i := range pods {
		pods[i] = podOn(node, i)
	}
	return pods
}

func suspect(t *testing.T, r *Registry, node string) Suspicion {
	t.Helper()
	s, any, err := r.Suspect(soon(t), node)
	if err != nil || !any {
		t.Fatalf("suspect %s: %t, %v", node, any, err)
	}
	return s
}

func drop(t *testing.T, r *Registry, s Suspicion) int {
	t.Helper()
	dropped, err := r.Drop(soon(t), s)
	if err != nil {
		t.Fatal(err)
	}
	return dropped
}

func report(t *testing.T, r *Registry, node string, pods []*tenancyv1.Pod) Counts {
	t.Helper()
	counts, err := r.Sync(soon(t), node, pods)
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

func TestPodsOfANodeThatIsGoneAreDropped(t *testing.T) {
	all := replicas(t, 2)
	a, b := all[0], all[1]
	report(t, a, "n1", podsOn("n1", 2*chunk+7)) // more than one commit can write
	report(t, a, "n2", podsOn("n2", 1))

	t.Run("all of them, and nobody else's", func(t *testing.T) {
		if got := drop(t, a, suspect(t, a, "n1")); got != 2*chunk+7 {
			t.Errorf("%d pods were dropped", got)
		}
		if n := a.Nodes(); len(n) != 1 || n[0] != "n2" {
			t.Errorf("nodes with pods: %v", n)
		}
		if entries, _ := a.bucket.List(goneKind + "."); len(entries) != 0 {
			t.Errorf("marks are left: %v", entries)
		}
	})
	t.Run("there is nothing to do for a node without pods", func(t *testing.T) {
		if _, any, err := a.Suspect(soon(t), "n1"); any || err != nil {
			t.Errorf("answered %t, %v", any, err)
		}
	})
	t.Run("two replicas share a mark, and the slower one finds nothing", func(t *testing.T) {
		first, second := suspect(t, a, "n2"), suspect(t, b, "n2")
		if first != second {
			t.Errorf("two marks: %v, %v", first, second)
		}
		if x, y := drop(t, a, first), drop(t, b, second); x != 1 || y != 0 {
			t.Errorf("%d and %d pods were dropped", x, y)
		}
	})
	t.Run("not when the node reported in between, even if that wrote nothing else", func(t *testing.T) {
		pods := podsOn("n1", 3)
		report(t, a, "n1", pods)
		s := suspect(t, a, "n1")
		if counts := report(t, b, "n1", pods); counts != (Counts{}) {
			t.Errorf("the report changed %v", counts)
		}
		if got := drop(t, a, s); got != 0 {
			t.Errorf("%d pods were dropped", got)
		}
	})
	t.Run("but not those that were stored after the suspicion", func(t *testing.T) {
		s := suspect(t, a, "n1")
		if _, err := b.Register(soon(t), podOn("n1", 99)); err != nil {
			t.Fatal(err)
		}
		if got := drop(t, a, s); got != 3 {
			t.Errorf("%d pods were dropped, want the 3 older ones", got)
		}
		if got := drop(t, a, suspect(t, a, "n1")); got != 1 {
			t.Errorf("then %d, want the new one", got)
		}
	})
}

// members is what ipam knows: who is registered.
type members struct {
	mu   sync.Mutex
	here map[string]bool
}

func (m *members) set(node string, here bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.here[node] = here
}

func (m *members) has(node string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.here[node]
}

// collect does what replicas do, as fast as they can, until ctx ends.
func (m *members) collect(ctx context.Context, r *Registry) error {
	for ctx.Err() == nil {
		if err := m.sweep(ctx, r); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

func (m *members) sweep(ctx context.Context, r *Registry) error {
	for _, node := range r.Nodes() {
		if m.has(node) {
			continue
		}
		s, any, err := r.Suspect(ctx, node)
		if err != nil {
			return err
		}
		if !any || m.has(node) {
			continue
		}
		if _, err := r.Drop(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// TestNoPodIsMissingAfterANodeCameBack lets nodes be released and come back
// while three replicas drop pods as fast as they can.
func TestNoPodIsMissingAfterANodeCameBack(t *testing.T) {
	const rounds = 25
	all, m := replicas(t, 3), &members{here: map[string]bool{}}
	ctx, stop := context.WithCancel(context.Background())
	var collecting, living sync.WaitGroup
	for _, r := range all {
		collecting.Go(func() {
			if err := m.collect(ctx, r); err != nil {
				t.Error(err)
			}
		})
	}
	for _, node := range []string{"n1", "n2", "n3"} {
		living.Go(func() {
			for range rounds {
				live(t, all, m, node)
			}
		})
	}
	living.Wait()
	stop()
	collecting.Wait()
	for len(all[0].Nodes()) > 0 {
		if err := m.sweep(soon(t), all[0]); err != nil {
			t.Fatal(err)
		}
	}
	if entries, _ := all[0].bucket.List(""); len(entries) != 0 {
		t.Errorf("left in the store: %v", entries)
	}
}

// live is a node that registers, reports, gets another pod, and is released;
// sometimes its agent does not know that yet and reports a pod more.
func live(t *testing.T, all []*Registry, m *members, node string) {
	any := func() *Registry { return all[rand.N(len(all))] }
	m.set(node, true)
	pods := podsOn(node, 4)
	if _, err := any().Sync(soon(t), node, pods); err != nil {
		t.Error(err)
		return
	}
	late := podOn(node, 5)
	if _, err := any().Register(soon(t), late); err != nil {
		t.Error(err)
		return
	}
	r := any()
	for range 3 {
		if err := catchup.Fully(soon(t), r.bucket); err != nil {
			t.Error(err)
			return
		}
		for _, p := range append(pods, late) {
			if _, found, err := Table().Get(r.bucket, p.GetNamespace(), p.GetName()); err != nil || !found {
				t.Errorf("pod %s is not there: %v", p.GetName(), err)
			}
		}
	}
	m.set(node, false)
	if rand.N(2) == 0 {
		if _, err := any().Register(soon(t), podOn(node, 6)); err != nil {
			t.Error(err)
		}
	}
}
