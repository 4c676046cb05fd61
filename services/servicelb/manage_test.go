package servicelb

import (
	"context"
	"fmt"
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

func TestAReplicaThatLagsLeavesNewerEndpointsAlone(t *testing.T) {
	store := newSystem(t).startCatalog()
	owner := catalog.Name{Namespace: "shop", Name: "web"}
	theirs := spec.SliceDefaults(sliceOf("web", "web.pods-9", "192.0.2.1"))
	if _, err := store.PutSlice(soon(t), theirs, 0); err != nil {
		t.Fatal(err)
	}
	managed := func(pods uint64, names ...string) []*servicelbv1.EndpointSlice {
		var list []*servicelbv1.EndpointSlice
		for _, name := range names {
			s := spec.SliceDefaults(sliceOf("web", name, "10.128.0.1"))
			s.ManagedBy, s.PodsRevision = spec.Manager, pods
			list = append(list, s)
		}
		return list
	}
	manage := func(want []*servicelbv1.EndpointSlice, asOf uint64) string {
		t.Helper()
		written, occupied, err := store.Manage(soon(t), owner, want, asOf)
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
