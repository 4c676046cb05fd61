package attach

import (
	"context"
	"sync"
)

// keyLocks lets one command at a time work on a container, and any number of
// commands on different ones.
type keyLocks struct {
	mu    sync.Mutex
	locks map[string]*keyLock
}

type keyLock struct {
	turn  chan struct{} // holds one token when it is free
	users int
}

// lock waits for the container's turn, as long as ctx allows.
func (k *keyLocks) lock(ctx context.Context, container string) (unlock func(), err error) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*keyLock{}
	}
	l := k.locks[container]
	if l == nil {
		l = &keyLock{turn: make(chan struct{}, 1)}
		l.turn <- struct{}{}
		k.locks[container] = l
	}
	l.users++
	k.mu.Unlock()
	select {
	case <-l.turn:
		return func() {
			l.turn <- struct{}{}
			k.leave(container, l)
		}, nil
	case <-ctx.Done():
		k.leave(container, l)
		return nil, ctx.Err()
	}
}

func (k *keyLocks) leave(container string, l *keyLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.locks, container)
	}
}
