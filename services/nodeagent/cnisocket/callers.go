package cnisocket

import (
	"context"
	"net"
	"sync"

	"github.com/containerd/ttrpc"
)

// root is the one user that may call.
const root = 0

// callers are the connections of a server. They are counted because the library's
// own graceful stop takes a connection for idle until its first answer, and would
// cut off a plugin that waits for it. A plugin asks one thing and hangs up, so that
// all is said when all connections are closed.
//
// The zero value is ready.
type callers struct {
	mu    sync.Mutex
	count int
	none  chan struct{} // closed when count gets to 0, if somebody waits for that
}

// Handshake implements ttrpc.Handshaker: it refuses whoever is not root, by the user
// id that the kernel noted when the caller connected.
func (c *callers) Handshake(ctx context.Context, conn net.Conn) (net.Conn, any, error) {
	conn, credentials, err := ttrpc.UnixSocketRequireUidGid(root, -1).Handshake(ctx, conn)
	if err != nil {
		return nil, nil, err
	}
	c.add(1)
	return &countedConn{Conn: conn, leave: sync.OnceFunc(func() { c.add(-1) })}, credentials, nil
}

func (c *callers) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count += n
	if c.count == 0 && c.none != nil {
		close(c.none)
		c.none = nil
	}
}

// gone answers a channel that is closed when there is no caller any more. Nobody
// may come meanwhile, and nobody else may be waiting.
func (c *callers) gone() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	none := make(chan struct{})
	if c.count == 0 {
		close(none)
	} else {
		c.none = none
	}
	return none
}

// countedConn is a connection that says when it is closed.
type countedConn struct {
	net.Conn
	leave func()
}

// Close closes the connection, which can be done more than once.
func (c *countedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
