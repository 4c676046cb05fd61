package selectors

import (
	"sync"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
)

// Dirty is the services that have to be looked at. A service that is named
// several times before it is taken is looked at once. It is safe for concurrent
// use.
type Dirty struct {
	mu       sync.Mutex
	names    map[catalog.Name]bool // true: whatever others know
	revision uint64                // of the newest change of a service
	wake     chan struct{}
}

// NewDirty returns an empty set.
func NewDirty() *Dirty {
	return &Dirty{names: map[catalog.Name]bool{}, wake: make(chan struct{}, 1)}
}

// Observe names the services among the changes of the bucket, also after a
// reset, which tells of all there are.
func (d *Dirty) Observe(changes []bucket.Change, reset bool) {
	var names []catalog.Name
	newest := uint64(0)
	for _, c := range changes {
		if name, ok := catalog.NameOfKey(c.Key, "service"); ok {
			names = append(names, name)
			newest = max(newest, c.Revision)
		}
	}
	d.mu.Lock()
	if reset {
		d.revision = 0 // it may be another store
	}
	d.revision = max(d.revision, newest)
	d.mu.Unlock()
	d.add(false, names...)
}

// add names services. With force, what other replicas wrote does not matter.
func (d *Dirty) add(force bool, names ...catalog.Name) {
	if len(names) == 0 {
		return
	}
	d.mu.Lock()
	for _, name := range names {
		d.names[name] = d.names[name] || force
	}
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// take answers what is there, and empties the set. The view must have reached
// the revision before the services are read: it is told of after the set.
func (d *Dirty) take() (names map[catalog.Name]bool, revision uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	names, d.names = d.names, map[catalog.Name]bool{}
	return names, d.revision
}

// again names a service without waking anybody: whoever failed pauses first.
func (d *Dirty) again(name catalog.Name, force bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[name] = d.names[name] || force
}
