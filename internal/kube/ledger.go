package kube

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/damask-sdn/damask/internal/bucket"
)

// Ledger knows which objects of a kind the store has anything of, and tells the controller
// of that kind what changes. A service's observer of the bucket calls Take and Forget.
type Ledger struct {
	*Feed

	mu   sync.Mutex
	keys map[string]types.NamespacedName // the store's, and whose they are
}

// NewLedger returns an empty one.
func NewLedger() *Ledger {
	l := &Ledger{keys: map[string]types.NamespacedName{}}
	l.Feed = NewFeed(l.all)
	return l
}

// all answers every name of which the store has anything.
func (l *Ledger) all() []types.NamespacedName {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := map[types.NamespacedName]bool{}
	for _, name := range l.keys {
		names[name] = true
	}
	list := make([]types.NamespacedName, 0, len(names))
	for name := range names {
		list = append(list, name)
	}
	return list
}

// Take takes over that a key which belongs to an object changed.
func (l *Ledger) Take(c bucket.Change, name types.NamespacedName) {
	l.mu.Lock()
	if c.Deleted {
		delete(l.keys, c.Key)
	} else {
		l.keys[c.Key] = name
	}
	l.mu.Unlock()
	l.Changed(name)
}

// Forget takes over that nothing that was known holds any more: the store may have lost any
// of it.
func (l *Ledger) Forget() {
	names := l.all()
	l.mu.Lock()
	clear(l.keys)
	l.mu.Unlock()
	l.Changed(names...)
}
