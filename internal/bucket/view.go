package bucket

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/damask-sdn/damask/internal/bus"
)

// Entry is a key that exists, with its value and the store sequence of its last
// change. The value must not be changed by the reader.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64
}

// Snapshot is the bucket as it was at one sequence. It never changes, and
// keeping one blocks nobody.
type Snapshot struct {
	root     *node
	sequence uint64
}

// Sequence answers the store sequence that the snapshot reflects.
func (s Snapshot) Sequence() uint64 { return s.sequence }

// Get answers the entry of a key, if the key exists.
func (s Snapshot) Get(key string) (Entry, bool) {
	n := s.root.find(key)
	if n == nil || n.deleted {
		return Entry{}, false
	}
	return Entry{Key: n.key, Value: n.value, Revision: n.revision}, true
}

// Scan answers the entries whose keys begin with prefix and are greater than
// after, in order of key. A page is a Scan that starts after the last page's
// last key and is left early.
func (s Snapshot) Scan(prefix, after string) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		s.root.walk(prefix, after, func(it *item) bool {
			return it.deleted || yield(Entry{Key: it.key, Value: it.value, Revision: it.revision})
		})
	}
}

// List answers the entries whose keys begin with prefix, in order of key.
func (s Snapshot) List(prefix string) []Entry {
	var entries []Entry
	for e := range s.Scan(prefix, "") {
		entries = append(entries, e)
	}
	return entries
}

// expectation is what the store must still hold under the key for a commit that
// is based on this snapshot: the sequence of its last message, a tombstone's
// too; 0 when there is none.
func (s Snapshot) expectation(key string) uint64 {
	if n := s.root.find(key); n != nil {
		return n.revision
	}
	return 0
}

// view is the present snapshot, and who waits for the next.
type view struct {
	current atomic.Pointer[Snapshot]

	mu      sync.Mutex // guards what follows, and writing current
	heads   map[string]*[bus.Shards]uint64
	created time.Time // of the stream that is shown; zero: none yet
	waiters []waiter

	observe Observer // called with mu held; may be nil
}

type waiter struct {
	sequence uint64
	passed   chan struct{}
}

func newView(observe Observer) *view {
	v := &view{heads: make(map[string]*[bus.Shards]uint64), observe: observe}
	v.current.Store(&Snapshot{})
	return v
}

func (v *view) snapshot() Snapshot { return *v.current.Load() }

// apply takes over changes that belong together.
func (v *view) apply(items []item, sequence uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	root := v.current.Load().root
	for _, it := range items {
		root = root.with(it)
		v.count(it)
	}
	v.tell(items, false)
	v.store(root, sequence)
}

// replace takes over a view that was rebuilt from the beginning of the stream that was created
// at that time.
func (v *view) replace(root *node, sequence uint64, created time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.heads)
	v.created = created
	var present []item
	root.walk("", "", func(it *item) bool {
		v.count(*it)
		if !it.deleted {
			present = append(present, *it)
		}
		return true
	})
	v.tell(present, true)
	v.store(root, sequence)
}

// forget drops a tombstone that the store no longer has.
func (v *view) forget(key string, revision uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.current.Load()
	if n := now.root.find(key); n != nil && n.deleted && n.revision == revision {
		v.store(now.root.without(key), now.sequence)
	}
}

func (v *view) store(root *node, sequence uint64) {
	v.current.Store(&Snapshot{root: root, sequence: sequence})
	kept := v.waiters[:0]
	for _, w := range v.waiters {
		if w.sequence <= sequence {
			close(w.passed)
		} else {
			kept = append(kept, w)
		}
	}
	clear(v.waiters[len(kept):])
	v.waiters = kept
}

func (v *view) count(it item) {
	kind := kindOf(it.key)
	shards := v.heads[kind]
	if shards == nil {
		shards = new([bus.Shards]uint64)
		v.heads[kind] = shards
	}
	i := bus.Shard(it.key)
	shards[i] = max(shards[i], it.revision)
}

// wait returns when the view reflects the sequence.
func (v *view) wait(ctx context.Context, sequence uint64) error {
	if v.current.Load().sequence >= sequence {
		return nil
	}
	v.mu.Lock()
	if v.current.Load().sequence >= sequence {
		v.mu.Unlock()
		return nil
	}
	w := waiter{sequence: sequence, passed: make(chan struct{})}
	v.waiters = append(v.waiters, w)
	v.mu.Unlock()
	select {
	case <-w.passed:
		return nil
	case <-ctx.Done():
		v.abandon(w)
		return context.Cause(ctx)
	}
}

func (v *view) abandon(w waiter) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range v.waiters {
		if v.waiters[i].passed == w.passed {
			v.waiters = append(v.waiters[:i], v.waiters[i+1:]...)
			return
		}
	}
}
