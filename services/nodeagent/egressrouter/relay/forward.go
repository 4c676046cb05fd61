package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/services/nodeagent/egressrouter/destination"
)

// freshTime is how long the addresses of a name are used before it is asked for again, and
// retryTime how long after a look-up that failed: as the ancestor's proxy has it.
const (
	freshTime = 10 * time.Second
	retryTime = time.Second
)

// forwarder leads the connections to one port to its destination.
type forwarder struct {
	to    destination.Forward
	out   *outward
	pipes *pipes
	log   hclog.Logger

	mu    sync.Mutex
	addrs []netip.Addr
	again time.Time // when the name is to be looked up again
	turn  int       // whose turn it is among addrs
}

func newForwarder(to destination.Forward, out *outward, pipes *pipes, log hclog.Logger) *forwarder {
	return &forwarder{to: to, out: out, pipes: pipes, log: log.With("port", to.Port)}
}

// serve takes connections until the listener is closed.
func (f *forwarder) serve(l net.Listener) error {
	pause := time.Millisecond
	for {
		client, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			// Too many files are open: those that end make room.
			f.log.Warn("cannot take a connection, trying again", "error", err)
			select {
			case <-f.pipes.ctx.Done():
				return nil
			case <-time.After(pause):
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = time.Millisecond
		f.pipes.all.Add(1)
		go func() {
			defer f.pipes.all.Done()
			f.lead(client.(*net.TCPConn))
		}()
	}
}

// lead carries one connection. A client whose destination does not answer is refused by a
// reset, as the destination would have done it.
func (f *forwarder) lead(client *net.TCPConn) {
	server, err := f.connect(f.pipes.ctx)
	if err != nil {
		f.log.Debug("not connected", "client", client.RemoteAddr().String(), "error", err)
		_ = client.SetLinger(0)
		_ = client.Close()
		return
	}
	f.pipes.carry(client, client, server)
}

// connect tries the destination's addresses, beginning with the next in turn.
func (f *forwarder) connect(ctx context.Context) (*net.TCPConn, error) {
	addrs, first, err := f.addresses(ctx)
	if err != nil {
		return nil, err
	}
	var problems []error
	for i := range addrs {
		conn, err := f.out.dial(ctx, netip.AddrPortFrom(addrs[(first+i)%len(addrs)], f.to.ToPort))
		if err == nil {
			return conn, nil
		}
		if problems = append(problems, err); ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(problems...)
}

// addresses are the destination's now, and which of them is the next in turn. While nobody
// answers, those of before stay.
func (f *forwarder) addresses(ctx context.Context) (addrs []netip.Addr, turn int, err error) {
	if f.to.Addr.IsValid() {
		return []netip.Addr{f.to.Addr}, 0, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); !now.Before(f.again) {
		found, err := f.out.lookup(ctx, f.to.Name)
		if err != nil && len(f.addrs) == 0 {
			return nil, 0, err
		}
		f.again = time.Now().Add(retryTime)
		if err == nil {
			f.addrs, f.again = found, now.Add(freshTime)
		}
	}
	f.turn++
	return f.addrs, f.turn % len(f.addrs), nil
}
