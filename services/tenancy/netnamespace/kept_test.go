package netnamespace

import (
	"errors"
	"testing"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

// promised are VNIDs of namespaces that the store does not know.
type promised struct {
	unknown error
	numbers map[uint32]bool
}

func (p *promised) Known(bucket.Reader) error { return p.unknown }
func (p *promised) Has(number uint32) bool    { return p.numbers[number] }

func TestWhatIsKeptIsGivenOnlyToWhoWishesForIt(t *testing.T) {
	r := single(t, vnid.Range{First: 10, Last: 29})
	kept := &promised{numbers: map[uint32]bool{}}
	for n := uint32(10); n < 29; n++ {
		kept.numbers[n] = true
	}
	r.numbers.Keep(kept)
	if ns := mustCreate(t, r, "new"); ns.GetNetid() != 29 {
		t.Errorf("a new namespace got VNID %d, only 29 is nobody's", ns.GetNetid())
	}
	var exhausted *ExhaustedError
	if _, err := r.Create(soon(t), wish("late")); !errors.As(err, &exhausted) {
		t.Errorf("all others are kept: %v", err)
	}
	if ns := mustCreate(t, r, "old", 17); ns.GetNetid() != 17 {
		t.Errorf("whose it is got %d", ns.GetNetid())
	}
	delete(kept.numbers, 20)
	if ns := mustCreate(t, r, "late"); ns.GetNetid() != 20 {
		t.Errorf("20 is not kept any more, given %d", ns.GetNetid())
	}
}

func TestNothingIsHandedOutWhileItIsNotKnownWhatIsKept(t *testing.T) {
	r := single(t, vnid.Default())
	kept := &promised{unknown: ErrKeptUnknown}
	r.numbers.Keep(kept)
	mustCreate(t, r, "global", 0)
	mustCreate(t, r, "wished", 4711)
	if _, err := r.Create(soon(t), wish("new")); !errors.Is(err, ErrKeptUnknown) {
		t.Errorf("create: %v", err)
	}
	if _, err := r.Isolate(soon(t), "global"); !errors.Is(err, ErrKeptUnknown) {
		t.Errorf("isolate: %v", err)
	}
	kept.unknown = nil
	mustCreate(t, r, "new")
}

func TestAdoptedNamespacesShareAsTheyDid(t *testing.T) {
	r := single(t, vnid.Default())
	for _, name := range []string{"shop", "web"} {
		w := wish(name, 42)
		w.Adopt = true
		if ns, err := r.Create(soon(t), w); err != nil || ns.GetNetid() != 42 {
			t.Fatalf("adopt %s: %v, %v", name, ns, err)
		}
	}
	if err := r.Delete(soon(t), "shop"); err != nil {
		t.Fatal(err)
	}
	var taken *TakenError
	if _, err := r.Create(soon(t), wish("new", 42)); !errors.As(err, &taken) || taken.By[0] != "web" {
		t.Errorf("the other one still has it: %v", err)
	}
}
