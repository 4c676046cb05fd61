package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
)

// Port is where an API server is in a lab, as in most clusters.
const Port = 6443

// dialTimeout bounds one connection to the API server. It is on the same machine, mostly.
const dialTimeout = 5 * time.Second

// Relay leads connections to an API server.
type Relay struct {
	listener *net.TCPListener
	server   netip.AddrPort
	dial     func(ctx context.Context, address string) (net.Conn, error)
	log      hclog.Logger
}

// NewRelay makes a relay of what comes to the listener to a server that dial reaches.
func NewRelay(listener *net.TCPListener, server netip.AddrPort, dial func(context.Context, string) (net.Conn, error), log hclog.Logger) *Relay {
	return &Relay{listener: listener, server: server, dial: dial, log: log}
}

// Run relays until the context ends.
func (r *Relay) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = r.listener.Close() })
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for {
			client, err := r.listener.AcceptTCP()
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return fmt.Errorf("relay to the API server: %w", err)
			}
			group.Go(func() error {
				r.carry(ctx, client)
				return nil
			})
		}
	})
	return group.Wait()
}

// carry carries one connection until either end closes it. Who comes while the API server
// is away is reset, as by the API server's own machine.
func (r *Relay) carry(ctx context.Context, client *net.TCPConn) {
	defer func() { _ = client.Close() }()
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	server, err := r.dial(dialing, r.server.String())
	cancel()
	if err != nil {
		r.log.Debug("the API server does not take connections", "error", err)
		_ = client.SetLinger(0)
		return
	}
	defer func() { _ = server.Close() }()
	stop := context.AfterFunc(ctx, func() { _, _ = client.Close(), server.Close() })
	defer stop()
	ended := make(chan error, 2)
	for _, way := range []struct{ to, from net.Conn }{{server, client}, {client, server}} {
		go func() {
			_, err := io.Copy(way.to, way.from)
			ended <- err
		}()
	}
	// TLS closes both ways at once, so the first end is that of both.
	if err := <-ended; err != nil && !errors.Is(err, net.ErrClosed) {
		r.log.Debug("a connection to the API server broke", "error", err)
	}
}
