package netnamespace

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/catchup"
	"github.com/damask-sdn/damask/services/tenancy/isolation"
	"github.com/damask-sdn/damask/services/tenancy/registry"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

// replica is one of several that write one bucket: with a connection, a view
// and numbers of its own, as a process would have.
type replica struct {
	*Store
	pods *registry.Registry
}

// replicas starts n replicas on a bucket of their own. stop ends them.
func replicas(t testing.TB, server *natsdtest.Server, name string, span vnid.Range, n int) (all []replica, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range n {
		js, nc := server.JetStream()
		numbers, index := NewNumbers(span), registry.NewIndex()
		b, err := bucket.Open(ctx, js, nc, bucket.Config{
			Name: name, Subject: name + ".v1",
			Observe: func(changes []bucket.Change, reset bool) {
				numbers.Observe(changes, reset)
				index.Observe(changes, reset)
			},
		}, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() { _ = b.Run(ctx) })
		if err := b.Ready(soon(t)); err != nil {
			t.Fatal(err)
		}
		all = append(all, replica{New(b, numbers), registry.New(b, index, time.Now)})
	}
	return all, func() {
		cancel()
		running.Wait()
	}
}

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// single starts one replica that lives as long as the test.
func single(t *testing.T, span vnid.Range) replica {
	t.Helper()
	all, stop := replicas(t, natsdtest.New(t), "tenants", span, 1)
	t.Cleanup(stop)
	return all[0]
}

// fresh is Get after catching up with the store, as the server does it.
func (r replica) fresh(ctx context.Context, name string) (*tenancyv1.NetNamespace, error) {
	if err := catchup.Fully(ctx, r.bucket); err != nil {
		return nil, err
	}
	return r.Get(name)
}

func wish(name string, number ...uint32) Wish {
	w := Wish{Name: name, Labels: map[string]string{NameLabel: name}}
	if len(number) > 0 {
		w.VNID = &number[0]
	}
	return w
}

func mustCreate(t *testing.T, r replica, name string, number ...uint32) *tenancyv1.NetNamespace {
	t.Helper()
	ns, err := r.Create(soon(t), wish(name, number...))
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	return ns
}

func setMode(t *testing.T, r replica, mode tenancyv1.IsolationMode) {
	t.Helper()
	if _, err := isolation.Set(soon(t), r.bucket, mode); err != nil {
		t.Fatal(err)
	}
}

// checkOwners compares both sides of the store: each VNID above 0 has exactly
// the namespaces that its key lists, and no key lists nobody.
func checkOwners(s bucket.Snapshot) error {
	lists := map[uint32]sharers{}
	for _, entry := range s.List(vnidKind + ".") {
		number, ok := numberOf(entry.Key)
		if !ok {
			return fmt.Errorf("key %s is no VNID's", entry.Key)
		}
		list, err := parseSharers(entry.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", entry.Key, err)
		}
		lists[number] = list
	}
	members := map[uint32]int{}
	for _, entry := range s.List(kind + ".") {
		ns, err := decode(entry)
		if err != nil {
			return err
		}
		members[ns.GetNetid()]++
		if n := ns.GetNetid(); n != vnid.Global && !lists[n].has(ns.GetName()) {
			return fmt.Errorf("%s has VNID %d, whose list is %v", ns.GetName(), n, lists[n])
		}
	}
	for number, list := range lists {
		if members[number] != len(list) {
			return fmt.Errorf("VNID %d is listed for %v, but %d namespaces have it", number, list, members[number])
		}
	}
	return nil
}
