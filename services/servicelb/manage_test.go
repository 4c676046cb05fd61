package servicelb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

// startCatalog opens a catalog on the store, as a replica has it.
func (s *system) startCatalog() *catalog.Store {
	t := s.t
	t.Helper()
	nc, err := natsd.Connect([]string{s.store.URL()}, s.ca.Source(t, identitytest.Service(t, serviceName)), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	cfg := large()
	numbers, err := cfg.numbers()
	if err != nil {
		t.Fatal(err)
	}
	index := catalog.NewIndex()
	b, err := bucket.Open(soon(t), js, nc, bucket.Config{
		Name: natsd.BucketName(serviceName), Subject: bus.Prefix(serviceName),
		Observe: func(changes []bucket.Change, reset bool) {
			numbers.Observe(changes, reset)
			index.Observe(changes, reset)
		},
	}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = b.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	if err := b.Refresh(soon(t)); err != nil {
		t.Fatal(err)
	}
	return catalog.New(b, numbers, index)
}

// managed is slices of the service web as the selector loop has them.
func managed(pods uint64, names ...string) []*servicelbv1.EndpointSlice {
	var list []*servicelbv1.EndpointSlice
	for _, name := range names {
		s := spec.SliceDefaults(sliceOf("web", name, "10.128.0.1"))
		s.ManagedBy, s.PodsRevision = spec.Manager, pods
		list = append(list, s)
	}
	return list
}

func selecting(app string) func(*servicelbv1.Service) {
	return func(s *servicelbv1.Service) { s.Selector = labels(app) }
}

func TestAReplicaThatLagsLeavesNewerEndpointsAlone(t *testing.T) {
	store := newSystem(t).startCatalog()
	owner := catalog.Name{Namespace: "shop", Name: "web"}
	service, err := store.Create(soon(t), spec.Defaults(web("web", selecting("web"))))
	if err != nil {
		t.Fatal(err)
	}
	theirs := spec.SliceDefaults(sliceOf("web", "web.pods-9", "192.0.2.1"))
	if _, err := store.PutSlice(soon(t), theirs, 0); err != nil {
		t.Fatal(err)
	}
	manage := func(want []*servicelbv1.EndpointSlice, asOf uint64) string {
		t.Helper()
		written, occupied, err := store.Manage(soon(t), owner, service.GetRevision(), always(want), asOf)
		if err != nil {
			t.Fatal(err)
		}
		page, err := store.Slices(catalog.Query{Namespaces: []string{"shop"}, Service: "web", Size: 10})
		if err != nil {
			t.Fatal(err)
		}
		var now []string
		for _, s := range page.Objects {
			now = append(now, fmt.Sprintf("%s@%d", s.GetName(), s.GetPodsRevision()))
		}
		return fmt.Sprint(written, occupied, now)
	}
	for _, step := range []struct{ what, got, want string }{
		{"the first look", manage(managed(10, "web.pods-0", "web.pods-1"), 10), "true [] [web.pods-0@10 web.pods-1@10 web.pods-9@0]"},
		{"the same later", manage(managed(12, "web.pods-0", "web.pods-1"), 12), "false [] [web.pods-0@10 web.pods-1@10 web.pods-9@0]"},
		{"another that lags has fewer", manage(managed(9, "web.pods-0"), 9), "false [] [web.pods-0@10 web.pods-1@10 web.pods-9@0]"},
		{"it catches up", manage(managed(11, "web.pods-0"), 11), "true [] [web.pods-0@10 web.pods-9@0]"},
		{"one of somebody else is in the way", manage(managed(11, "web.pods-0", "web.pods-9"), 11), "false [shop/web.pods-9] [web.pods-0@10 web.pods-9@0]"},
		{"with force, an older view counts", manage(nil, 0), "true [] [web.pods-9@0]"},
	} {
		if step.got != step.want {
			t.Errorf("%s: got %s, want %s", step.what, step.got, step.want)
		}
	}
}

func TestSlicesAreOfTheServiceThatIsThere(t *testing.T) {
	store := newSystem(t).startCatalog()
	name := catalog.Name{Namespace: "shop", Name: "web"}
	create := func(change ...func(*servicelbv1.Service)) uint64 {
		t.Helper()
		s, err := store.Create(soon(t), spec.Defaults(web("web", change...)))
		if err != nil {
			t.Fatal(err)
		}
		return s.GetRevision()
	}
	manage := func(revision uint64, want ...string) string {
		t.Helper()
		written, _, err := store.Manage(soon(t), name, revision, always(managed(10, want...)), 10)
		if err != nil && !errors.Is(err, catalog.ErrServiceChanged) {
			t.Fatal(err)
		}
		return fmt.Sprint(written, err != nil, len(store.ServicesWithSlices()))
	}
	first := create(selecting("web"))
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: written, changed, services with slices: %s, want %s", what, got, want)
		}
	}
	expect("the first look", manage(first, "web.pods-0"), "true false 1")
	if s, err := store.Get(name); err != nil || s.GetRevision() != first {
		t.Errorf("a slice moved the service's revision from %d: %v, %v", first, s, err)
	}
	if err := store.Delete(soon(t), name); err != nil {
		t.Fatal(err)
	}
	expect("a look that began before the service went", manage(first, "web.pods-0"), "false false 0")
	second := create(selecting("other"))
	expect("and one that began before it came back", manage(first, "web.pods-0"), "false true 0")
	expect("a look at what it is now", manage(second, "web.pods-0"), "true false 1")
	if _, err := store.Update(soon(t), spec.Defaults(web("web")), 0); err != nil {
		t.Fatal(err)
	}
	expect("it selects nothing any more", manage(second, "web.pods-0", "web.pods-1"), "true false 0")
}

// TestNoSliceOutlivesItsService deletes services while two replicas, with views
// of their own, add slices to them: whoever commits first, no slice stays behind.
// The first replica has other work, so that what it does at once shares commits.
func TestNoSliceOutlivesItsService(t *testing.T) {
	const rounds = 60
	sys := newSystem(t)
	a, b := sys.startCatalog(), sys.startCatalog()
	name := catalog.Name{Namespace: "shop", Name: "web"}
	stop := keepBusy(t, a)
	var early, late atomic.Int32
	for round := range rounds {
		service, err := a.Create(soon(t), spec.Defaults(web("web", selecting("web"))))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.CatchUp(soon(t)); err != nil {
			t.Fatal(err)
		}
		var racing sync.WaitGroup
		for i, store := range []*catalog.Store{a, b} {
			racing.Go(func() {
				written, _, err := store.Manage(soon(t), name, service.GetRevision(), always(managed(10, fmt.Sprintf("web.pods-%d", i))), 10)
				if err != nil && !errors.Is(err, catalog.ErrServiceChanged) {
					t.Error(err)
				}
				if written {
					early.Add(1)
				} else {
					late.Add(1)
				}
			})
		}
		racing.Go(func() {
			if err := []*catalog.Store{a, b}[round%2].Delete(soon(t), name); err != nil {
				t.Error(err)
			}
		})
		racing.Wait()
		for _, store := range []*catalog.Store{a, b} {
			if err := store.CatchUp(soon(t)); err != nil {
				t.Fatal(err)
			}
			if left := store.ServicesWithSlices(); len(left) > 0 {
				t.Fatalf("round %d: slices of %v are left of a service that is gone", round, left)
			}
		}
	}
	stop()
	t.Logf("slices were first %d times, and late %d times", early.Load(), late.Load())
	if early.Load() == 0 || late.Load() == 0 {
		t.Error("there was no race")
	}
	for entry := range sys.read().Scan("", "") {
		t.Errorf("%s is left", entry.Key)
	}
}

// keepBusy lets a store commit other services, several keys each, until stop.
func keepBusy(t *testing.T, store *catalog.Store) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	working.Go(func() {
		for ctx.Err() == nil {
			if _, err := store.Create(soon(t), spec.Defaults(web("busy"))); err != nil {
				t.Error(err)
			}
			if err := store.Delete(soon(t), catalog.Name{Namespace: "shop", Name: "busy"}); err != nil {
				t.Error(err)
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); working.Wait() })
	t.Cleanup(stop)
	return stop
}

// always wants the same slices, whatever is stored.
func always(want []*servicelbv1.EndpointSlice) func([]*servicelbv1.EndpointSlice) []*servicelbv1.EndpointSlice {
	return func([]*servicelbv1.EndpointSlice) []*servicelbv1.EndpointSlice { return want }
}
