package follow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"
)

// maxNames is the most names that one call of List is given.
const maxNames = 500

// errStale: the snapshot is older than what is known or needed. Another
// replica, or this one a little later, will do better.
var errStale = errors.New("snapshot is older than what is known")

// claim is an interest that a List is to settle, as it was when asked.
type claim[T proto.Message] struct {
	in     *interest[T]
	doubts uint64
	need   uint64
}

// keepListing lists whatever is in doubt, until ctx ends.
func (f *Follower[T]) keepListing(ctx context.Context) {
	pause, failing := f.pace.retryMin, false
	for ctx.Err() == nil {
		claims := f.claim()
		if len(claims) == 0 {
			select {
			case <-f.wakeLister:
			case <-ctx.Done():
			}
			continue
		}
		err := f.list(ctx, claims)
		if err == nil {
			if failing {
				f.log.Info("following again")
			}
			pause, failing = f.pace.retryMin, false
			continue
		}
		if !failing && !errors.Is(err, errStale) && ctx.Err() == nil {
			f.log.Warn("cannot list, keeping what is known and trying again", "error", err)
			failing = true
		}
		wait(ctx, pause/2+rand.N(pause/2+1))
		pause = min(2*pause, f.pace.retryMax)
	}
}

// claim answers the interests in doubt.
func (f *Follower[T]) claim() []claim[T] {
	f.mu.Lock()
	defer f.mu.Unlock()
	var claims []claim[T]
	for _, in := range f.interests {
		if in.certain() {
			continue
		}
		// What was known when asking, the snapshot must know too.
		claims = append(claims, claim[T]{in: in, doubts: in.doubts, need: max(in.need, in.highest)})
		if len(claims) == maxNames {
			break
		}
	}
	return claims
}

// list asks the service, and applies the answer.
func (f *Follower[T]) list(ctx context.Context, claims []claim[T]) error {
	ctx, cancel := context.WithTimeout(ctx, f.pace.list)
	defer cancel()
	f.flush(ctx)
	var names []string
	if !f.options.All {
		for _, c := range claims {
			names = append(names, c.in.name)
		}
	}
	objects, sequence, err := f.source.List(ctx, names)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applyList(claims, objects, sequence)
}

// flush makes sure that the subscriptions have reached the server before the
// snapshot is taken. Without a connection there is nothing to wait for: the
// reconnect brings the next List.
func (f *Follower[T]) flush(ctx context.Context) {
	if !f.nc.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_ = f.nc.FlushWithContext(ctx)
}

// applyList applies the difference between a snapshot and the copy. The lock is
// held.
func (f *Follower[T]) applyList(claims []claim[T], objects []T, sequence uint64) error {
	replaced, err := f.judgeAge(claims, sequence)
	if err != nil {
		return err
	}
	scope := make(map[string]*interest[T], len(claims))
	for _, c := range claims {
		if f.interests[c.in.name] != c.in {
			continue // dropped meanwhile
		}
		scope[c.in.name] = c.in
		if replaced {
			c.in.restart()
		}
	}
	present := make(map[string]bool, len(objects))
	another := replaced
	for _, object := range objects {
		name := f.source.Name(object)
		in := scope[f.interestName(name)]
		if in == nil {
			continue
		}
		present[name] = true
		revision := f.source.Revision(object)
		rec, found := in.objects[name]
		another = another || rec.revision <= sequence && revision < rec.revision // in one store it only grows
		// Where the snapshot is as new as the record, it is right in any case.
		if !found || revision > rec.revision || (rec.revision <= sequence && (rec.gone || revision != rec.revision)) {
			f.set(in, name, record[T]{object: object, revision: revision})
		}
	}
	for _, c := range claims {
		if scope[c.in.name] == c.in {
			f.settle(c, present, sequence)
		}
	}
	f.announce()
	if another && f.options.OnReplaced != nil {
		f.options.OnReplaced()
	}
	return nil
}

// settle removes what the snapshot does not have, and notes what it settled.
func (f *Follower[T]) settle(c claim[T], present map[string]bool, sequence uint64) {
	in := c.in
	for name, rec := range in.objects {
		if present[name] || rec.revision > sequence {
			continue
		}
		in.forget(name) // from here on coverage says that it is gone
		if !rec.gone {
			f.enqueue(Event[T]{Name: name, Deleted: true, Revision: sequence})
		}
	}
	if !in.listed {
		in.listed = true // also of nothing the cache is to say that it is known
		f.saved = false
		f.wakeKeeper.give()
	}
	in.coverage = max(in.coverage, sequence)
	in.highest = max(in.highest, sequence)
	in.settled = c.doubts
	if in.certain() {
		in.need = 0
	}
}

// judgeAge refuses a snapshot that is older than the copy. When all of them
// have been so for long, the store itself was replaced, and the snapshot is
// the new truth.
func (f *Follower[T]) judgeAge(claims []claim[T], sequence uint64) (replaced bool, err error) {
	stale := false
	for _, c := range claims {
		stale = stale || sequence < max(c.need, c.in.buried)
	}
	if !stale {
		f.staleSince = time.Time{}
		return false, nil
	}
	if f.staleSince.IsZero() {
		f.staleSince = time.Now()
	}
	if time.Since(f.staleSince) < f.pace.staleAfter {
		return false, errStale
	}
	f.staleSince = time.Time{}
	f.log.Warn("the service's store was replaced by an older one, taking it over", "sequence", sequence)
	return true, nil
}

// restart forgets all sequences, but not the objects.
func (in *interest[T]) restart() {
	for name, rec := range in.objects {
		if in.forget(name); !rec.gone {
			in.objects[name] = record[T]{object: rec.object}
		}
	}
	in.coverage, in.highest, in.need, in.buried = 0, 0, 0, 0
	clear(in.newest)
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
