package names

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Times of a name.
const (
	// floor is the shortest time between two look-ups that succeed: a TTL of 0
	// would be a flood.
	floor = 5 * time.Second
	// ceiling is the longest: a mistake in a zone is not to last for ever.
	ceiling = 24 * time.Hour
	// firstRetry and lastRetry are the pauses after failures; they double.
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
	// linger is how long an address stays after it was last seen, at least; a
	// longer TTL counts if there is one. Pods remember answers, and servers that
	// have many addresses give out some of them at a time.
	linger = time.Minute
	// maxAddresses bounds what a name can have; the newest stay.
	maxAddresses = 4000
)

// entry is one name's state. It is pure: the caller brings the time.
type entry struct {
	addresses map[netip.Addr]time.Time // until when each stays
	resolved  bool                     // the last look-up succeeded
	absent    bool                     // the last one said that there are none
	problem   string                   // of the last one, if it failed
	failures  int
	slow      bool // the last one took long, so the next may
	due       time.Time
}

// newEntry is a name that is to be looked up at once. Addresses that an earlier
// replica knew stay as if they had just been seen.
func newEntry(now time.Time, inherited []netip.Addr) *entry {
	e := &entry{addresses: map[netip.Addr]time.Time{}, due: now}
	for _, addr := range inherited {
		e.addresses[addr] = now.Add(linger)
	}
	return e
}

// succeed takes over an answer.
func (e *entry) succeed(now time.Time, a Answer) {
	e.answered(now)
	for _, addr := range a.Addresses {
		e.keep(addr, now.Add(min(max(a.TTL, linger), ceiling)))
	}
	e.resolved, e.absent, e.problem, e.failures = true, false, "", 0
	e.due = now.Add(min(max(a.TTL, floor), ceiling))
	e.expire(now)
}

// fail takes over a failure. That a name has no addresses is an answer: those
// that it had leave when pods have forgotten them. Otherwise they stay.
func (e *entry) fail(now time.Time, err error) {
	absent := errors.Is(err, ErrNoAddress)
	if absent {
		e.answered(now)
	}
	e.resolved, e.absent, e.problem = false, absent, err.Error()
	pause := min(firstRetry<<min(e.failures, 10), lastRetry)
	e.failures++
	e.due = now.Add(pause)
}

// answered notes that servers answer. While they did not, nothing left; from
// now on it does.
func (e *entry) answered(now time.Time) {
	if e.failures == 0 || e.absent {
		return
	}
	for addr := range e.addresses {
		e.keep(addr, now.Add(linger))
	}
}

// keep makes an address stay until a time, if it does not stay longer anyway.
func (e *entry) keep(addr netip.Addr, until time.Time) {
	if until.After(e.addresses[addr]) {
		e.addresses[addr] = until
	}
}

// expire drops addresses that nobody remembers, and the oldest beyond the limit.
// While servers fail to answer, none is dropped.
func (e *entry) expire(now time.Time) {
	if !e.resolved && !e.absent {
		return
	}
	maps.DeleteFunc(e.addresses, func(_ netip.Addr, until time.Time) bool { return !until.After(now) })
	if len(e.addresses) <= maxAddresses {
		return
	}
	all := slices.SortedFunc(maps.Keys(e.addresses), func(a, b netip.Addr) int {
		if c := e.addresses[b].Compare(e.addresses[a]); c != 0 {
			return c
		}
		return a.Compare(b)
	})
	for _, addr := range all[maxAddresses:] {
		delete(e.addresses, addr)
	}
}

// list answers the addresses, in order.
func (e *entry) list() []netip.Addr {
	return slices.SortedFunc(maps.Keys(e.addresses), netip.Addr.Compare)
}
