package names

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/types/known/timestamppb"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/store"
)

const (
	// batch is how many decisions are committed at once; each may hold names of
	// a wildcard that go.
	batch = 200
	// commitTime bounds a commit, and retryAfter is the pause after one that did
	// not work.
	commitTime = 5 * time.Second
	retryAfter = 500 * time.Millisecond
	// sweepEvery is how often forgotten names of wildcards, and addresses that
	// nobody remembers, are looked for.
	sweepEvery = 10 * time.Second
)

// resolver finds the addresses of a name.
type resolver interface {
	Lookup(ctx context.Context, name string) (Answer, error)
}

// lease is what makes this replica the one that looks names up.
type lease interface {
	CommitNames(ctx context.Context, decisions []store.NameDecision) error
}

// keeper keeps the names of all policies. It is for one goroutine.
type keeper struct {
	book     *Book
	resolver resolver
	lease    lease
	log      hclog.Logger

	entries      map[string]*entry // by name that is looked up
	prompt, slow *lane             // look-ups under way
	begun        bool              // names that are new now are new to all replicas
	answers      chan result
}

// Keep looks names up until ctx ends, or the lease is lost, which it answers.
// The book is complete when it is called.
func Keep(ctx context.Context, book *Book, r resolver, l lease, log hclog.Logger) error {
	k := &keeper{
		book: book, resolver: r, lease: l, log: log.Named("names"),
		entries: map[string]*entry{}, prompt: newLane(promptPlaces, promptTime), slow: newLane(slowPlaces, 0),
		answers: make(chan result, promptPlaces+slowPlaces),
	}
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	failing := false
	for {
		now := time.Now()
		pause := k.start(ctx, now)
		if err := k.commit(ctx, now); err != nil {
			if errors.Is(err, store.ErrLeaseLost) {
				return err
			}
			if ctx.Err() == nil && !failing {
				k.log.Warn("addresses of names are not committed, trying again", "error", err)
			}
			failing, pause = true, min(pause, retryAfter)
		} else {
			failing = false
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-sweep.C:
		case <-book.Wake():
		case res := <-k.answers:
			k.take(time.Now(), res)
			k.drain()
		}
		timer.Stop()
		if ctx.Err() != nil {
			for range len(k.prompt.flying) + len(k.slow.flying) { // their results find room
				<-k.answers
			}
			return nil
		}
	}
}

// drain takes what else has ended, so that it shares a commit.
func (k *keeper) drain() {
	for {
		select {
		case res := <-k.answers:
			k.take(time.Now(), res)
		default:
			return
		}
	}
}

// start begins look-ups that are due, and answers how long nothing else is.
func (k *keeper) start(ctx context.Context, now time.Time) time.Duration {
	wanted := k.book.lookups()
	for name := range k.entries {
		if !wanted[name] {
			delete(k.entries, name)
		}
	}
	var due []string
	next := now.Add(sweepEvery)
	for name := range wanted {
		e := k.entries[name]
		if e == nil {
			e = newEntry(now, nil)
			if !k.begun {
				e = newEntry(now, k.book.inherited(name))
			}
			k.entries[name] = e
		}
		switch {
		case k.prompt.flying[name] || k.slow.flying[name]:
		case !e.due.After(now):
			due = append(due, name)
		case e.due.Before(next):
			next = e.due
		}
	}
	k.begun = true
	// The longest overdue first: with many names none is forgotten.
	slices.SortFunc(due, func(a, b string) int {
		return cmp.Or(k.entries[a].due.Compare(k.entries[b].due), strings.Compare(a, b))
	})
	var prompt, slow []string
	for _, name := range due {
		if k.entries[name].slow {
			slow = append(slow, name)
		} else {
			prompt = append(prompt, name)
		}
	}
	k.fly(ctx, k.prompt, prompt)
	k.fly(ctx, k.slow, slow)
	return next.Sub(now)
}

func (k *keeper) take(now time.Time, res result) {
	delete(res.lane.flying, res.name)
	e := k.entries[res.name]
	if e == nil { // nobody needs it any more
		return
	}
	cut := res.lane == k.prompt && !res.prompt() && res.err != nil && !errors.Is(res.err, ErrNoAddress)
	e.slow = !res.prompt()
	switch {
	case cut: // no failure yet: it is looked up anew at once, with more time
	case res.err != nil:
		e.fail(now, res.err)
	default:
		e.succeed(now, res.answer)
	}
}

// commit stores what differs from what is stored.
func (k *keeper) commit(ctx context.Context, now time.Time) error {
	decisions := k.decide(now)
	for part := range slices.Chunk(decisions, batch) {
		bounded, cancel := context.WithTimeout(ctx, commitTime)
		err := k.lease.CommitNames(bounded, part)
		cancel()
		if err != nil {
			return err
		}
	}
	if len(decisions) > 0 {
		k.log.Debug("addresses of names stored", "names", len(decisions))
	}
	return nil
}

// decide answers what nodes are to be told anew.
func (k *keeper) decide(now time.Time) []store.NameDecision {
	var decisions []store.NameDecision
	rules, stored := k.book.rules(), k.book.stored()
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		members, gone := []string{name}, []string(nil)
		if strings.HasPrefix(name, "*.") {
			members, gone = k.book.members(name, now)
		}
		next := k.object(name, members, now)
		old := stored[name]
		if old != nil && next.GetState() == old.GetState() && next.GetError() == old.GetError() {
			next.Since = old.GetSince()
		}
		if old == nil || len(gone) > 0 || next.GetState() != old.GetState() || next.GetError() != old.GetError() || !slices.Equal(next.GetAddresses(), old.GetAddresses()) {
			decisions = append(decisions, store.NameDecision{Name: name, Object: next, Gone: gone})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(stored)) {
		if !rules[name] {
			decisions = append(decisions, store.NameDecision{Name: name, Gone: k.book.allMembers(name)})
		}
	}
	return decisions
}

// object is what nodes are told of a rule's name, which stands for the members.
func (k *keeper) object(name string, members []string, now time.Time) *egressv1.DNSName {
	next := &egressv1.DNSName{Name: name, State: egressv1.NameState_NAME_STATE_RESOLVED, Since: timestamppb.New(now)}
	var all []netip.Addr
	for _, member := range members {
		e := k.entries[member]
		if e == nil {
			continue
		}
		e.expire(now)
		all = append(all, e.list()...)
		if !e.resolved && e.failures > 0 && next.Error == "" {
			next.Error = e.problem
			if member != name {
				next.Error = member + ": " + e.problem
			}
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	for _, addr := range slices.Compact(all) {
		next.Addresses = append(next.Addresses, addr.String())
	}
	switch {
	case next.Error != "" && len(all) > 0:
		next.State = egressv1.NameState_NAME_STATE_STALE
	case len(all) == 0:
		next.State = egressv1.NameState_NAME_STATE_UNRESOLVED
	}
	return next
}
