package bridge

import (
	"fmt"
	"sync"
)

// numbers hands out OpenFlow port numbers. They are chosen here and asked for, and
// not left to OVS, so that the request in the database brings the same number back
// after a restart of ovs-vswitchd.
type numbers struct {
	mu      sync.Mutex
	last    uint32            // the number handed out last; 0: none yet
	pending map[uint32]string // handed out, not yet in the database
}

// reserve answers a number that neither used nor a pending call has, and that was
// not in use until just now: it goes round through the whole range. done gives the
// number back, once it is in the database or not needed.
func (n *numbers) reserve(name string, used map[uint32]string) (number uint32, done func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last == 0 {
		n.last = FirstPodOFPort - 1
		for taken := range used {
			if taken <= LastPodOFPort {
				n.last = max(n.last, taken)
			}
		}
	}
	candidate := n.last
	for range LastPodOFPort - FirstPodOFPort + 1 {
		candidate++
		if candidate > LastPodOFPort {
			candidate = FirstPodOFPort
		}
		if used[candidate] != "" || n.pending[candidate] != "" {
			continue
		}
		n.last = candidate
		return candidate, n.hold(candidate, name), nil
	}
	return 0, nil, fmt.Errorf("all OpenFlow ports from %d to %d are taken", FirstPodOFPort, LastPodOFPort)
}

// claim reserves one number. It fails when used or a pending call has it.
func (n *numbers) claim(number uint32, name string, used map[uint32]string) (done func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	owner := used[number]
	if owner == "" {
		owner = n.pending[number]
	}
	if owner != "" && owner != name {
		return nil, fmt.Errorf("%w: %d is %s's", ErrOFPortTaken, number, owner)
	}
	return n.hold(number, name), nil
}

func (n *numbers) hold(number uint32, name string) (done func()) {
	if n.pending == nil {
		n.pending = map[uint32]string{}
	}
	n.pending[number] = name
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.pending, number)
	}
}

// nameLocks orders calls for the same port and no others.
type nameLocks struct {
	mu   sync.Mutex
	held map[string]*nameLock
}

type nameLock struct {
	sync.Mutex
	users int
}

// lock waits for the port's turn.
func (n *nameLocks) lock(name string) (unlock func()) {
	n.mu.Lock()
	if n.held == nil {
		n.held = map[string]*nameLock{}
	}
	l := n.held[name]
	if l == nil {
		l = &nameLock{}
		n.held[name] = l
	}
	l.users++
	n.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		n.mu.Lock()
		defer n.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(n.held, name)
		}
	}
}
