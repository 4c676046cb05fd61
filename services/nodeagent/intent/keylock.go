package intent

import (
	"slices"
	"sync"
)

// keyLocks locks by name. Locks are taken in sorted order, so that two callers
// that share several names never wait for one another in a circle; an unused
// name costs nothing.
type keyLocks struct {
	mu    sync.Mutex
	locks map[string]*keyLock
}

type keyLock struct {
	sync.Mutex
	waiters int
}

func newKeyLocks() *keyLocks { return &keyLocks{locks: map[string]*keyLock{}} }

// lock takes all names and answers how to give them back.
func (k *keyLocks) lock(names []string) (unlock func()) {
	names = slices.Clone(names)
	slices.Sort(names)
	names = slices.Compact(names)
	held := make([]*keyLock, len(names))
	k.mu.Lock()
	for i, name := range names {
		l := k.locks[name]
		if l == nil {
			l = &keyLock{}
			k.locks[name] = l
		}
		l.waiters++
		held[i] = l
	}
	k.mu.Unlock()
	for _, l := range held {
		l.Lock()
	}
	return func() {
		for _, l := range held {
			l.Unlock()
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		for i, name := range names {
			if held[i].waiters--; held[i].waiters == 0 {
				delete(k.locks, name)
			}
		}
	}
}
