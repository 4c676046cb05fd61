package resolution

import (
	"strings"
	"sync"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/services/tenancy/policystore"
)

// sources are the kinds of keys from which resolved objects follow. The
// isolation mode changes none of them, but whoever set it may wait as for any
// other change.
var sources = []string{"netnamespace", "pod", policystore.Kind, "isolation"}

func isSource(key string) bool {
	kind, _, _ := strings.Cut(key, ".")
	for _, s := range sources {
		if kind == s {
			return true
		}
	}
	return false
}

// facts collects which source keys have changed, while somebody wants to know.
type facts struct {
	wake chan struct{}

	mu         sync.Mutex
	collecting bool
	batch      batch
}

// batch is changes that are to be looked at.
type batch struct {
	all    bool // The store was replaced: everything may have changed.
	keys   map[string]struct{}
	newest uint64 // Revision of the newest of them.
}

func newFacts() *facts { return &facts{wake: make(chan struct{}, 1)} }

// observe takes over changes of the bucket.
func (f *facts) observe(changes []bucket.Change, reset bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.collecting {
		return
	}
	f.batch.all = f.batch.all || reset
	for _, c := range changes {
		if !reset && isSource(c.Key) {
			f.batch.keys[c.Key] = struct{}{}
			f.batch.newest = max(f.batch.newest, c.Revision)
		}
	}
	if f.batch.all || len(f.batch.keys) > 0 {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// begin starts collecting, and end ends it.
func (f *facts) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.collecting, f.batch = true, batch{keys: map[string]struct{}{}}
}

func (f *facts) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.collecting, f.batch = false, batch{}
}

// take answers what has been collected since the last time.
func (f *facts) take() batch {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.batch
	f.batch = batch{keys: map[string]struct{}{}}
	return b
}
