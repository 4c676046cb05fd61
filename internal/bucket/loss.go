package bucket

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"
)

// losses tells those who wait for an answer when the connection breaks: the
// answer will never come then.
type losses struct {
	mu      sync.Mutex
	next    int
	waiting map[int]func()
}

// during calls cancel at the first loss before the answered function is called.
func (l *losses) during(cancel func()) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == nil {
		l.waiting = make(map[int]func())
	}
	id := l.next
	l.next++
	l.waiting[id] = cancel
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.waiting, id)
	}
}

// watch looks for losses until ctx ends.
func (l *losses) watch(ctx context.Context, nc *nats.Conn) {
	status := nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	defer nc.RemoveStatusListener(status)
	for {
		select {
		case <-status:
		case <-ctx.Done():
			return
		}
		l.mu.Lock()
		for _, cancel := range l.waiting {
			cancel()
		}
		l.mu.Unlock()
	}
}
