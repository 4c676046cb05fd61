package resolution

import (
	"sync"

	"github.com/damask-sdn/damask/internal/bucket"
)

// moved wakes whoever waits for the marker to change.
type moved struct {
	mu      sync.Mutex
	changed chan struct{}
	latest  uint64
}

// next answers what is closed at the next change, and the revision of the latest
// one, which the view may not show yet.
func (m *moved) next() (<-chan struct{}, uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return m.changed, m.latest
}

func (m *moved) observe(changes []bucket.Change, reset bool) {
	key, latest := marker().Key(markerName), uint64(0)
	for _, c := range changes {
		if reset || c.Key == key {
			latest = max(latest, c.Revision)
		}
	}
	if !reset && latest == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.latest = max(m.latest, latest); reset {
		m.latest = latest
	}
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}
