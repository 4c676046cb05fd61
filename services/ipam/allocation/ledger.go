package allocation

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/services/ipam/plan"
	"github.com/damask-sdn/damask/services/ipam/subnet"
)

// Kinds of keys beside the public objects.
const (
	claimKind  = "claim"
	hostIPKind = "hostip"
)

// cursorKey names the fence and the progress through the ranges.
var cursorKey = bucket.Key("cursor", plan.Name)

// ledger is who has what, within one transaction.
type ledger struct {
	tx *bucket.Tx
	// cursor is, for each range, the number of subnets of its order that were
	// given out or passed over because somebody had asked for them. None of
	// these is unused: each has a claim, owned or freed.
	cursor map[string]uint32
}

// openLedger reads the ledger, and fences the transaction off from others
// that open it to write.
func openLedger(tx *bucket.Tx) (*ledger, error) {
	l := &ledger{tx: tx, cursor: map[string]uint32{}}
	stored, exists := tx.Get(cursorKey)
	if !exists {
		tx.Put(cursorKey, []byte("{}"))
		return l, nil
	}
	if err := json.Unmarshal(stored.Value, &l.cursor); err != nil {
		return nil, fmt.Errorf("stored cursor is damaged: %w", err)
	}
	if l.cursor == nil { // "null"
		return nil, errors.New("stored cursor is damaged: it is null")
	}
	tx.Touch(cursorKey)
	return l, nil
}

// storeCursor writes the progress; unchanged, the fence of openLedger stays.
func (l *ledger) storeCursor() error {
	value, err := json.Marshal(l.cursor) // sorts the keys
	if err != nil {
		return fmt.Errorf("encode cursor: %w", err)
	}
	l.tx.Put(cursorKey, value)
	l.tx.Touch(cursorKey)
	return nil
}

func claimKey(p netip.Prefix) string { return bucket.Key(claimKind, p.String()) }

func hostIPKey(a netip.Addr) string { return bucket.Key(hostIPKind, a.String()) }

// owner answers who has a subnet; empty when nobody has.
func (l *ledger) owner(p netip.Prefix) string {
	e, _ := l.tx.Get(claimKey(p))
	return string(e.Value)
}

// used says whether anybody has or had a subnet.
func (l *ledger) used(p netip.Prefix) bool {
	_, exists := l.tx.Get(claimKey(p))
	return exists
}

func (l *ledger) claim(p netip.Prefix, node string) { l.tx.Put(claimKey(p), []byte(node)) }

// free leaves the claim without an owner: its revision then says since when.
func (l *ledger) free(p netip.Prefix) { l.tx.Put(claimKey(p), nil) }

// hostIPOwner answers which node has an address; empty when none has.
func (l *ledger) hostIPOwner(a netip.Addr) string {
	e, _ := l.tx.Get(hostIPKey(a))
	return string(e.Value)
}

func (l *ledger) claimHostIP(a netip.Addr, node string) { l.tx.Put(hostIPKey(a), []byte(node)) }

func (l *ledger) freeHostIP(a netip.Addr) { l.tx.Delete(hostIPKey(a)) }

// next answers the subnet that a new node gets, from the first range that has
// one.
func (l *ledger) next(ranges []subnet.Range) (netip.Prefix, bool, error) {
	for _, r := range ranges {
		if p, ok := l.unused(r); ok {
			return p, true, l.storeCursor()
		}
		p, ok, err := l.freedFirst(r)
		if err != nil {
			return netip.Prefix{}, false, err
		}
		if ok {
			return p, true, l.storeCursor()
		}
	}
	return netip.Prefix{}, false, nil
}

// unused answers the first subnet of a range, in its order, that nobody ever
// had, and moves the cursor past it.
func (l *ledger) unused(r subnet.Range) (netip.Prefix, bool) {
	name := r.String()
	for n := l.cursor[name]; n < r.Count(); n++ {
		l.cursor[name] = n + 1
		if p := r.At(n); !l.used(p) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// freedFirst answers the subnet of a range that was freed longest ago.
func (l *ledger) freedFirst(r subnet.Range) (first netip.Prefix, found bool, err error) {
	oldest := uint64(math.MaxUint64)
	for e := range l.tx.Scan(claimKind+".", "") {
		if len(e.Value) > 0 {
			continue
		}
		p, err := claimedSubnet(e.Key)
		if err != nil {
			return netip.Prefix{}, false, err
		}
		since := e.Revision
		if since == 0 { // freed by this transaction: the newest
			since = math.MaxUint64 - 1
		}
		if r.Has(p) && since < oldest {
			first, found, oldest = p, true, since
		}
	}
	return first, found, nil
}

// forgetFreed drops the marks of freed subnets that are no longer of the
// plan, at most so many in one transaction. What stays does no harm.
func (l *ledger) forgetFreed(p plan.Plan, most int) error {
	for e := range l.tx.Scan(claimKind+".", "") {
		if len(e.Value) > 0 {
			continue
		}
		s, err := claimedSubnet(e.Key)
		if err != nil {
			return err
		}
		if _, kept := p.RangeOf(s); kept {
			continue
		}
		if most--; most < 0 {
			break
		}
		l.tx.Delete(e.Key)
	}
	return nil
}
