package netnamespace

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

// vnidKind is the kind of the keys that say who has a VNID.
const vnidKind = "vnid"

// Numbers follows which VNIDs are taken, so that a free one is found without
// reading the store. It learns of every change before the transaction that
// made it is answered. It only proposes: what is written is decided by the
// store, so a Numbers that is ahead or behind costs an attempt, never a VNID.
type Numbers struct {
	span vnid.Range
	kept Kept

	mu  sync.Mutex
	set *vnid.Set
}

// NewNumbers returns the numbers of a valid range, all free.
func NewNumbers(span vnid.Range) *Numbers {
	return &Numbers{span: span, set: vnid.NewSet(span)}
}

// ErrKeptUnknown says that nothing can be handed out yet: somebody may have it.
var ErrKeptUnknown = errors.New("which VNIDs are kept for namespaces that the store does not know is not known yet")

// Kept knows which VNIDs belong to somebody of whom the store does not know: the
// objects of a cluster whose store was lost.
type Kept interface {
	// Known fails with ErrKeptUnknown while others may be kept than those that Has
	// answers, as a transaction sees it.
	Known(r bucket.Reader) error
	// Has says whether a VNID is not to be handed out. It never waits.
	Has(number uint32) bool
}

// Keep has what is kept not handed out; only who wishes for it gets it. It is called
// before anything is handed out.
func (n *Numbers) Keep(kept Kept) { n.kept = kept }

// propose answers a VNID that is neither taken nor kept, the first one from a random
// place upward; false if there is none.
func (n *Numbers) propose(r bucket.Reader) (number uint32, ok bool, err error) {
	number, ok = n.next(n.start())
	if n.kept == nil {
		return number, ok, nil
	}
	if err := n.kept.Known(r); err != nil {
		return 0, false, err
	}
	for range n.span.Size() {
		if !ok || !n.kept.Has(number) {
			return number, ok, nil
		}
		number, ok = n.next(number + 1)
	}
	return 0, false, nil
}

// Range is which VNIDs are handed out.
func (n *Numbers) Range() vnid.Range { return n.span }

// Observe takes over changes of the bucket; after a reset they are all there is.
func (n *Numbers) Observe(changes []bucket.Change, reset bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if reset {
		n.set = vnid.NewSet(n.span)
	}
	for _, c := range changes {
		number, ok := numberOf(c.Key)
		switch {
		case !ok:
		case c.Deleted:
			n.set.Free(number)
		default:
			n.set.Take(number)
		}
	}
}

// Taken is how many VNIDs of the range are taken.
func (n *Numbers) Taken() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.set.Taken()
}

// start draws where a search begins.
func (n *Numbers) start() uint32 {
	return n.span.First + rand.Uint32N(uint32(n.span.Size())) //nolint:gosec // spreads, protects nothing; the size fits 24 bits
}

// next proposes the first free VNID at start or above, wrapping at the top.
func (n *Numbers) next(start uint32) (uint32, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.set.Next(start)
}

func vnidKey(number uint32) string {
	return bucket.Key(vnidKind, strconv.FormatUint(uint64(number), 10))
}

// numberOf answers the VNID of its key.
func numberOf(key string) (uint32, bool) {
	text, ok := strings.CutPrefix(key, vnidKind+".")
	if !ok {
		return 0, false
	}
	number, err := strconv.ParseUint(text, 10, 32)
	return uint32(number), err == nil
}
