package follow

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/token"
)

// ErrNotWanted: a follower by name was asked for an object that it does not
// follow.
var ErrNotWanted = errors.New("not followed")

// interest is what one subscription covers: everything, a first name, or one
// object. The follower's lock guards it.
type interest[T proto.Message] struct {
	name    string // empty: everything
	subject string
	sub     *nats.Subscription
	objects map[string]record[T]

	listed   bool   // the service has answered at least once
	cached   bool   // the cache file had everything, when the process last ran
	coverage uint64 // sequence of the newest snapshot that was applied
	highest  uint64 // of coverage and all revisions seen
	doubts   uint64 // counts the reasons to list
	settled  uint64 // doubts when the last good list began
	need     uint64 // a snapshot older than this does not settle the doubts

	tombstones int    // how many records are gone
	buried     uint64 // highest revision of a tombstone that was forgotten

	// newest is, for each shard of the bus, the newest change that was seen.
	newest map[int]uint64
}

// record is what is known of one object; a tombstone when gone.
type record[T proto.Message] struct {
	object   T
	revision uint64
	gone     bool
}

// doubt asks for a snapshot that is at least as new as the sequence.
func (in *interest[T]) doubt(need uint64) {
	in.doubts++
	in.need = max(in.need, need)
}

// known says whether what objects has is everything, as of now or as of when the
// process last ran.
func (in *interest[T]) known() bool { return in.listed || in.cached }

func (in *interest[T]) certain() bool { return in.listed && in.settled == in.doubts }

// knownOf answers up to which sequence the changes of a key are known.
func (in *interest[T]) knownOf(shard int) uint64 { return max(in.coverage, in.newest[shard]) }

// Want follows a name; of a nested source, all objects with that first name.
// Wanting twice is as wanting once. What the cache knows of it is known at once.
func (f *Follower[T]) Want(name string) { f.WantSince(name, 0) }

// WantSince is Want for who heard of the name by a change of that store sequence. A replica
// that has not seen this change itself must not be believed that there is no such object:
// what told of the object may have passed before anybody here listened.
func (f *Follower[T]) WantSince(name string, sequence uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.interests[name] != nil || (f.options.All && name != "") {
		return
	}
	in := &interest[T]{
		name: name, subject: f.subject(name),
		objects: make(map[string]record[T]), newest: make(map[int]uint64),
	}
	in.doubt(sequence)
	in.cached = f.remember[name]
	delete(f.remember, name)
	f.interests[name] = in
	for object, rec := range f.dormant {
		if name == "" || f.interestName(object) == name {
			delete(f.dormant, object)
			in.remember(object, rec)
			f.enqueue(Event[T]{Name: object, Object: rec.object, Revision: rec.revision})
		}
	}
	if f.running {
		if err := f.subscribe(in); err != nil {
			f.log.Error("cannot subscribe, changes come late", "name", name, "error", err)
		}
	}
	f.announce()
	f.wakeLister.give()
}

// Drop ends the interest in a name and forgets what was known. There is no
// event for that; an event that was on its way may still come.
func (f *Follower[T]) Drop(name string) {
	if f.options.All {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	in := f.interests[name]
	if in == nil {
		return
	}
	delete(f.interests, name)
	f.saved = false
	f.wakeKeeper.give()
	kept := f.queue[:0]
	for _, e := range f.queue {
		if f.interestName(e.Name) != name {
			kept = append(kept, e)
		}
	}
	f.told += uint64(len(f.queue) - len(kept))
	f.queue = kept
	unsubscribe(in)
	f.announce()
}

// Get answers an object of the copy.
func (f *Follower[T]) Get(name string) (object T, exists bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	in := f.interests[f.interestName(name)]
	if in == nil {
		return object, false
	}
	rec, found := in.objects[name]
	if !found || rec.gone {
		return object, false
	}
	return rec.object, true
}

// Of answers everything of a name that is wanted: of a nested source, all objects with
// that first name. Known is false while neither the service has answered nor a cache
// file had it: then there may be more. The revision is that of the last change of any
// of them that was seen, of one that is gone too; if there is none, that of the
// snapshot.
func (f *Follower[T]) Of(name string) (objects map[string]T, revision uint64, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	in := f.interests[name]
	if in == nil {
		return nil, 0, false
	}
	objects = make(map[string]T, len(in.objects))
	for object, rec := range in.objects {
		revision = max(revision, rec.revision)
		if !rec.gone {
			objects[object] = rec.object
		}
	}
	if len(in.objects) == 0 {
		revision = in.coverage
	}
	return objects, revision, in.known()
}

// Known returns when Of answers everything of a name. ErrNotWanted if the follower
// does not, or no longer, follow it.
func (f *Follower[T]) Known(ctx context.Context, name string) error {
	return f.until(ctx, "learn of "+name, func() (bool, error) {
		in := f.interests[name]
		if in == nil {
			return false, ErrNotWanted
		}
		return in.known(), nil
	})
}

// Newest is the store sequence of the newest change or snapshot that was seen.
func (f *Follower[T]) Newest() (sequence uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, in := range f.interests {
		sequence = max(sequence, in.highest)
	}
	return sequence
}

// Snapshot answers the whole copy, by name.
func (f *Follower[T]) Snapshot() map[string]T {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(map[string]T)
	for _, in := range f.interests {
		for name, rec := range in.objects {
			if !rec.gone {
				all[name] = rec.object
			}
		}
	}
	return all
}

// Synced returns when everything that is followed has been listed and nothing
// is known to be missing.
func (f *Follower[T]) Synced(ctx context.Context) error {
	return f.until(ctx, "wait for the first snapshot", func() (bool, error) {
		for _, in := range f.interests {
			if !in.certain() {
				return false, nil
			}
		}
		return true, nil
	})
}

// Find answers an object as soon as it is known whether it exists: at once if
// the copy has it, be it from the cache; else when the service has answered.
// ErrNotWanted if the follower does not follow the name.
func (f *Follower[T]) Find(ctx context.Context, name string) (object T, exists bool, err error) {
	err = f.until(ctx, "find "+name, func() (bool, error) {
		in := f.interests[f.interestName(name)]
		if in == nil {
			return false, ErrNotWanted
		}
		rec, found := in.objects[name]
		if found && !rec.gone {
			object, exists = rec.object, true
		}
		return exists || in.certain(), nil
	})
	return object, exists, err
}

// Await answers an object as soon as it exists.
func (f *Follower[T]) Await(ctx context.Context, name string) (object T, err error) {
	err = f.until(ctx, "wait for "+name, func() (bool, error) {
		in := f.interests[f.interestName(name)]
		if in == nil {
			return false, ErrNotWanted
		}
		rec, found := in.objects[name]
		if !found || rec.gone {
			return false, nil
		}
		object = rec.object
		return true, nil
	})
	return object, err
}

// until waits for a condition that is looked at under the lock.
func (f *Follower[T]) until(ctx context.Context, what string, met func() (bool, error)) error {
	for {
		f.mu.Lock()
		done, err := met()
		changed := f.changed
		f.mu.Unlock()
		if err != nil {
			return fmt.Errorf("follow %s %s: %s: %w", f.source.Service, f.source.Kind, what, err)
		}
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("follow %s %s: %s: %w", f.source.Service, f.source.Kind, what, context.Cause(ctx))
		}
	}
}

// announce wakes whoever waits for a change. The lock is held.
func (f *Follower[T]) announce() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// interestName answers the name of the interest that an object falls under.
func (f *Follower[T]) interestName(object string) string {
	switch {
	case f.options.All:
		return ""
	case f.source.Nested:
		first, _, _ := strings.Cut(object, "/")
		return first
	default:
		return object
	}
}

func (f *Follower[T]) subject(name string) string {
	prefix := bus.Prefix(f.source.Service) + "." + f.source.Kind + "."
	switch {
	case name == "":
		return prefix + ">"
	case f.source.Nested:
		return prefix + token.Encode(name) + ".>"
	default:
		return prefix + token.Encode(name)
	}
}

// key answers an object's key in the service's bucket.
func (f *Follower[T]) key(object string) string {
	key := f.source.Kind
	if !f.source.Nested {
		return key + "." + token.Encode(object)
	}
	for name := range strings.SplitSeq(object, "/") {
		key += "." + token.Encode(name)
	}
	return key
}

func (f *Follower[T]) subscribeAll() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running = true
	for _, in := range f.interests {
		if err := f.subscribe(in); err != nil {
			return fmt.Errorf("follow %s %s: subscribe: %w", f.source.Service, f.source.Kind, err)
		}
	}
	return nil
}

// subscribe opens an interest's subscription. Its messages are taken over as
// fast as they come, so nothing is ever dropped on this side.
func (f *Follower[T]) subscribe(in *interest[T]) error {
	sub, err := f.nc.Subscribe(in.subject, func(msg *nats.Msg) { f.takeChange(in, msg) })
	if err != nil {
		return err
	}
	in.sub = sub
	return sub.SetPendingLimits(-1, -1)
}

func (f *Follower[T]) unsubscribeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running = false
	for _, in := range f.interests {
		unsubscribe(in)
	}
}

func unsubscribe[T proto.Message](in *interest[T]) {
	if in.sub != nil {
		_ = in.sub.Unsubscribe() // fails only when the connection is closed already
		in.sub = nil
	}
}
