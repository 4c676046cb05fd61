package svcsync

import (
	"sync"
	"time"
)

// mark says that an object has changed: since when, and to which revision.
type mark struct {
	since    time.Time
	revision uint64
}

// marks collect what has changed while the loop is busy. An object that changes ten
// times is looked at once.
type marks struct {
	wake chan struct{}

	mu       sync.Mutex
	services map[string]mark
	slices   map[string]mark
}

func newMarks() *marks {
	return &marks{wake: make(chan struct{}, 1), services: map[string]mark{}, slices: map[string]mark{}}
}

// service marks a service by its namespace and name. It never blocks.
func (m *marks) service(name string, revision uint64) { m.put(&m.services, name, revision) }

// slice marks a slice.
func (m *marks) slice(name string, revision uint64) { m.put(&m.slices, name, revision) }

func (m *marks) put(in *map[string]mark, name string, revision uint64) {
	now := time.Now()
	m.mu.Lock()
	before, marked := (*in)[name]
	if marked {
		now = before.since
	}
	(*in)[name] = mark{since: now, revision: max(before.revision, revision)}
	m.mu.Unlock()
	m.nudge()
}

// nudge wakes the loop.
func (m *marks) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// take answers all marks and forgets them.
func (m *marks) take() (services, slices map[string]mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	services, slices = m.services, m.slices
	m.services, m.slices = map[string]mark{}, map[string]mark{}
	return services, slices
}
