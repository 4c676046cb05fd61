package relay

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// lingerTime is how long connections may go on when the proxy is to stop: less than the 30 s
// after which a kubelet kills.
const lingerTime = 20 * time.Second

// pipes are the connections under way.
type pipes struct {
	ctx context.Context // ends when they must
	all sync.WaitGroup
}

// newPipes are pipes that are cut when ctx has ended and lingerTime more.
func newPipes(ctx context.Context) (*pipes, context.CancelFunc) {
	last, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(lingerTime, cancel)
		context.AfterFunc(last, func() { timer.Stop() })
	})
	return &pipes{ctx: last}, func() {
		stop()
		cancel()
	}
}

// carry takes both ways of a connection until both are at their end. said is what the
// client had said already.
func (p *pipes) carry(client net.Conn, said io.Reader, server *net.TCPConn) {
	defer client.Close()
	defer server.Close()
	defer context.AfterFunc(p.ctx, func() {
		_ = client.Close()
		_ = server.Close()
	})()
	done := make(chan struct{})
	go func() {
		defer close(done)
		oneWay(server, said)
	}()
	oneWay(client, server)
	<-done
}

// oneWay copies, and tells the receiver when there is no more. Who does not take any more
// ends the other way too.
func oneWay(to net.Conn, from io.Reader) {
	_, err := io.Copy(to, from)
	half, can := to.(interface{ CloseWrite() error })
	if err != nil || !can {
		_ = to.Close()
		if c, is := from.(io.Closer); is {
			_ = c.Close()
		}
		return
	}
	_ = half.CloseWrite() // it may be gone
}
