package openflow

import (
	"context"
	"math"
	"slices"
	"sync"
)

// An exchange is a request under way, with the range of transaction ids of its messages. Its replies queue without
// limit: the reader must never wait for a requester, since ovs-vswitchd stops reading when its replies are not taken, and
// the requester may be writing.
type exchange struct {
	first, last uint32

	mutex sync.Mutex
	queue []message
	ready chan struct{} // Holds a token when something was queued.
}

func (e *exchange) put(m message) {
	e.mutex.Lock()
	e.queue = append(e.queue, m)
	e.mutex.Unlock()
	select {
	case e.ready <- struct{}{}:
	default:
	}
}

func (e *exchange) take() (message, bool) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if len(e.queue) == 0 {
		return message{}, false
	}
	m := e.queue[0]
	e.queue[0] = message{}
	e.queue = e.queue[1:]
	return m, true
}

// open reserves n transaction ids (at least 1) and a queue for their replies.
func (c *Conn) open(n int) (*exchange, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.cause != nil {
		return nil, c.cause
	}
	if math.MaxUint32-c.nextXID < uint32(n) {
		c.nextXID = 1 // Zero is for what the switch sends unasked.
	}
	e := &exchange{first: c.nextXID, last: c.nextXID + uint32(n) - 1, ready: make(chan struct{}, 1)}
	c.nextXID = e.last + 1
	c.exchanges = append(c.exchanges, e)
	return e, nil
}

// forget drops an exchange, and with it replies that come late.
func (c *Conn) forget(e *exchange) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if i := slices.Index(c.exchanges, e); i >= 0 {
		c.exchanges = slices.Delete(c.exchanges, i, i+1)
	}
}

func (c *Conn) exchangeOf(xid uint32) *exchange {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for _, e := range c.exchanges {
		if e.first <= xid && xid <= e.last {
			return e
		}
	}
	return nil
}

// reply waits for the next message of an exchange.
func (c *Conn) reply(ctx context.Context, e *exchange) (message, error) {
	for {
		if m, ok := e.take(); ok {
			return m, nil
		}
		select {
		case <-e.ready:
		case <-ctx.Done():
			return message{}, context.Cause(ctx)
		case <-c.done:
			if m, ok := e.take(); ok { // Came before the end.
				return m, nil
			}
			return message{}, c.Err()
		}
	}
}
