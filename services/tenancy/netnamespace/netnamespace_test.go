package netnamespace

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

func TestCreateGivesEachNamespaceAVNIDOfItsOwn(t *testing.T) {
	r := single(t, vnid.Default())
	seen := map[uint32]string{}
	for i := range 50 {
		ns := mustCreate(t, r, fmt.Sprintf("tenant-%d", i))
		if n := ns.GetNetid(); n < vnid.First || n > vnid.Last || seen[n] != "" {
			t.Fatalf("%s has VNID %d, which %q has too or which is special", ns.GetName(), n, seen[n])
		}
		seen[ns.GetNetid()] = ns.GetName()
		if ns.GetNetname() != ns.GetName() || ns.GetLabels()[NameLabel] != ns.GetName() || ns.GetRevision() == 0 {
			t.Errorf("created %v", ns)
		}
	}
	if r.numbers.Taken() != 50 {
		t.Errorf("%d VNIDs are counted as taken, want 50", r.numbers.Taken())
	}
}

func TestCreateAgainAnswersWhatIsThere(t *testing.T) {
	r := single(t, vnid.Default())
	first := mustCreate(t, r, "shop", 42)
	for _, w := range []Wish{wish("shop"), wish("shop", 42)} {
		again, err := r.Create(soon(t), w)
		if err != nil || again.GetNetid() != 42 || again.GetRevision() != first.GetRevision() {
			t.Errorf("create again: %v, %v, want revision %d", again, err, first.GetRevision())
		}
	}
	labelled := wish("shop")
	labelled.Labels = map[string]string{NameLabel: "shop", "a": "b"}
	for _, w := range []Wish{wish("shop", 43), labelled} {
		var exists *ExistsError
		if _, err := r.Create(soon(t), w); !errors.As(err, &exists) {
			t.Errorf("create %+v: %v, want ExistsError", w, err)
		}
	}
}

func TestWishes(t *testing.T) {
	r := single(t, vnid.Default())
	mustCreate(t, r, "shop", 42)
	var taken *TakenError
	if _, err := r.Create(soon(t), wish("web", 42)); !errors.As(err, &taken) || taken.VNID != 42 || taken.By[0] != "shop" {
		t.Errorf("a taken VNID: %v", err)
	}
	for _, name := range []string{"apiserver", "etcd"} {
		if ns := mustCreate(t, r, name, 1); ns.GetNetid() != 1 {
			t.Errorf("%s has VNID %d, want 1", name, ns.GetNetid())
		}
	}
	for _, name := range []string{"dns", "ingress"} {
		if ns := mustCreate(t, r, name, 0); ns.GetNetid() != 0 {
			t.Errorf("%s has VNID %d, want 0", name, ns.GetNetid())
		}
	}
	if err := r.Delete(soon(t), "shop"); err != nil {
		t.Fatal(err)
	}
	if ns := mustCreate(t, r, "web", 42); ns.GetNetid() != 42 {
		t.Errorf("a freed VNID was not granted: %v", ns)
	}
}

func TestDefaultIsGlobalFromTheStartAndCannotGo(t *testing.T) {
	all, stop := replicas(t, natsdtest.New(t), "tenants", vnid.Default(), 3)
	t.Cleanup(stop)
	var starting sync.WaitGroup
	for _, r := range all {
		starting.Go(func() {
			if err := r.EnsureDefault(soon(t)); err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	r := all[0]
	ns, err := r.fresh(soon(t), Default)
	if err != nil || ns.GetNetid() != vnid.Global {
		t.Fatalf("default is %v, %v", ns, err)
	}
	var isDefault *DefaultError
	if err := r.Delete(soon(t), Default); !errors.As(err, &isDefault) {
		t.Errorf("delete: %v", err)
	}
	if _, err := r.Isolate(soon(t), Default); !errors.As(err, &isDefault) {
		t.Errorf("isolate: %v", err)
	}
	// Joining another is allowed, and a restart does not undo it.
	mustCreate(t, r, "shop", 42)
	if ns, err := r.Join(soon(t), Default, "shop"); err != nil || ns.GetNetid() != 42 {
		t.Fatalf("join: %v, %v", ns, err)
	}
	if err := r.EnsureDefault(soon(t)); err != nil {
		t.Fatal(err)
	}
	if ns, err := r.fresh(soon(t), Default); err != nil || ns.GetNetid() != 42 {
		t.Errorf("after a restart default is %v, %v", ns, err)
	}
	if ns, err := r.MakeGlobal(soon(t), Default); err != nil || ns.GetNetid() != 0 {
		t.Errorf("global: %v, %v", ns, err)
	}
}

func TestJoinIsolateAndGlobal(t *testing.T) {
	r := single(t, vnid.Default())
	shop, web := mustCreate(t, r, "shop"), mustCreate(t, r, "web")

	kept, err := r.Isolate(soon(t), "shop")
	if err != nil || kept.GetNetid() != shop.GetNetid() || kept.GetRevision() != shop.GetRevision() {
		t.Fatalf("isolate of a lone one: %v, %v, want it unchanged: %v", kept, err, shop)
	}
	joined, err := r.Join(soon(t), "shop", "web")
	if err != nil || joined.GetNetid() != web.GetNetid() || joined.GetRevision() <= shop.GetRevision() {
		t.Fatalf("join: %v, %v", joined, err)
	}
	again, err := r.Join(soon(t), "shop", "web")
	if err != nil || again.GetRevision() != joined.GetRevision() {
		t.Fatalf("join again: %v, %v, want revision %d", again, err, joined.GetRevision())
	}
	// Both share: whoever is isolated first gets a new VNID, the other keeps it.
	moved, err := r.Isolate(soon(t), "web")
	if err != nil || moved.GetNetid() == web.GetNetid() || moved.GetNetid() < vnid.First {
		t.Fatalf("isolate of a sharer: %v, %v", moved, err)
	}
	if kept, err := r.Isolate(soon(t), "shop"); err != nil || kept.GetNetid() != web.GetNetid() {
		t.Fatalf("isolate of the one left: %v, %v, want VNID %d", kept, err, web.GetNetid())
	}
	if global, err := r.MakeGlobal(soon(t), "shop"); err != nil || global.GetNetid() != 0 {
		t.Fatalf("global: %v, %v", global, err)
	}
	if own, err := r.Isolate(soon(t), "shop"); err != nil || own.GetNetid() < vnid.First {
		t.Fatalf("isolate of a global one: %v, %v", own, err)
	}
	if joined, err := r.Join(soon(t), "shop", "shop"); err != nil || joined.GetNetid() < vnid.First {
		t.Fatalf("join itself: %v, %v", joined, err)
	}
	if err := checkOwners(r.bucket.Snapshot()); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	r := single(t, vnid.Default())
	mustCreate(t, r, "shop")
	calls := map[string]func() error{
		"get":              func() error { _, err := r.fresh(soon(t), "gone"); return err },
		"join":             func() error { _, err := r.Join(soon(t), "gone", "shop"); return err },
		"join to the gone": func() error { _, err := r.Join(soon(t), "shop", "gone"); return err },
		"isolate":          func() error { _, err := r.Isolate(soon(t), "gone"); return err },
		"global":           func() error { _, err := r.MakeGlobal(soon(t), "gone"); return err },
	}
	for name, call := range calls {
		var notFound *NotFoundError
		if err := call(); !errors.As(err, &notFound) || notFound.Name != "gone" {
			t.Errorf("%s: %v, want NotFoundError", name, err)
		}
	}
	if err := r.Delete(soon(t), "gone"); err != nil {
		t.Errorf("delete of what is gone: %v", err)
	}
}

func TestMovesNeedMultitenantMode(t *testing.T) {
	r := single(t, vnid.Default())
	mustCreate(t, r, "shop")
	setMode(t, r, tenancyv1.IsolationMode_ISOLATION_MODE_SUBNET)
	var mode *ModeError
	if _, err := r.Join(soon(t), "shop", "shop"); !errors.As(err, &mode) {
		t.Errorf("join: %v", err)
	}
	if _, err := r.Isolate(soon(t), "shop"); !errors.As(err, &mode) {
		t.Errorf("isolate: %v", err)
	}
	if _, err := r.MakeGlobal(soon(t), "shop"); !errors.As(err, &mode) || !strings.Contains(err.Error(), "is subnet") {
		t.Errorf("global: %v", err)
	}
	mustCreate(t, r, "web") // creating and deleting go on
	if err := r.Delete(soon(t), "web"); err != nil {
		t.Error(err)
	}
	setMode(t, r, tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT)
	if _, err := r.MakeGlobal(soon(t), "shop"); err != nil {
		t.Errorf("global after the mode is back: %v", err)
	}
}

func TestANamespaceWithPodsCannotGo(t *testing.T) {
	all, stop := replicas(t, natsdtest.New(t), "tenants", vnid.Default(), 2)
	t.Cleanup(stop)
	for round := range 20 { // over two replicas, whose views lag by turns
		name := fmt.Sprintf("shop-%d", round)
		mustCreate(t, all[0], name)
		pod := &tenancyv1.Pod{Namespace: name, Name: "web", Node: "n1", SandboxId: "s1", Ips: []string{"10.128.0.2"}}
		if _, err := all[1].pods.Register(soon(t), pod); err != nil {
			t.Fatal(err)
		}
		var hasPods *PodsError
		if err := all[0].Delete(soon(t), name); !errors.As(err, &hasPods) || hasPods.Count != 1 || hasPods.Node != "n1" {
			t.Fatalf("delete with a pod: %v", err)
		}
	}
}

func TestExhaustionIsAClearErrorAndEndsWithTheFirstFreedVNID(t *testing.T) {
	r := single(t, vnid.Range{First: 10, Last: 29})
	for i := range 20 {
		mustCreate(t, r, fmt.Sprintf("tenant-%d", i))
	}
	var exhausted *ExhaustedError
	if _, err := r.Create(soon(t), wish("late")); !errors.As(err, &exhausted) || !strings.Contains(err.Error(), "all 20 VNIDs are taken") {
		t.Fatalf("create: %v", err)
	}
	mustCreate(t, r, "global", 0) // needs none
	if _, err := r.Isolate(soon(t), "global"); !errors.As(err, &exhausted) {
		t.Fatalf("isolate: %v", err)
	}
	freed, err := r.fresh(soon(t), "tenant-7")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(soon(t), "tenant-7"); err != nil {
		t.Fatal(err)
	}
	if ns := mustCreate(t, r, "late"); ns.GetNetid() != freed.GetNetid() {
		t.Errorf("the one free VNID is %d, given %d", freed.GetNetid(), ns.GetNetid())
	}
}

func TestListsAreInOrderAndInPages(t *testing.T) {
	r := single(t, vnid.Default())
	for _, name := range []string{"b", "a", "a-b", "c", "a1"} {
		mustCreate(t, r, name)
	}
	names := func(l Listing) string {
		var list []string
		for _, ns := range l.Namespaces {
			list = append(list, ns.GetName())
		}
		return fmt.Sprint(list, l.More)
	}
	named := []string{"c", "nobody", "a", "c", "b"}
	cases := []struct {
		name, after, want string
		size              int
		only              []string
	}{
		{name: "the first page", size: 2, want: "[a a-b] true"},
		{name: "the next", after: "a-b", size: 2, want: "[a1 b] true"},
		{name: "the last", after: "b", size: 2, want: "[c] false"},
		{name: "a page that ends the list exactly", after: "a1", size: 2, want: "[b c] false"},
		{name: "those named", only: named, size: 2, want: "[a b] true"},
		{name: "those named, the rest", only: named, after: "b", size: 2, want: "[c] false"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			list := func() (Listing, error) { return r.List(c.after, c.size) }
			if c.only != nil {
				list = func() (Listing, error) { return r.ListNamed(c.only, c.after, c.size) }
			}
			page, err := list()
			if err != nil || names(page) != c.want || page.Sequence == 0 {
				t.Errorf("%s at %d, %v, want %s", names(page), page.Sequence, err, c.want)
			}
		})
	}
}
