// Package bridge keeps the node's Open vSwitch bridge as it should be, through the
// switch's database (OVSDB).
//
// It owns br0's rows: the bridge, the tunnel port (OpenFlow port 1), tun0 (port 2)
// and one port for each pod. It promises that a bridge is repaired in place and
// never deleted, that AddPort and DeletePort can be called again and again, that
// AddPort returns only when the switch has confirmed the OpenFlow port number, and
// that calls for different ports do not wait for one another: each is one
// transaction on one shared connection, which comes back by itself.
//
// It must not send flows, touch addresses or routes, or change rows of other
// bridges.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// DefaultDatabase is where ovsdb-server listens on a node.
	DefaultDatabase = "unix:/run/openvswitch/db.sock"
	// DefaultName is the name of the pod bridge.
	DefaultName = "br0"

	// A lost connection is dialled again after retryFirst, then twice as long each
	// time up to retryMost: a restart of ovsdb-server takes some 100 ms.
	retryFirst = 20 * time.Millisecond
	retryMost  = 2 * time.Second
)

// errLost says that the connection went away during a call. The call begins anew.
var errLost = errors.New("connection to ovsdb lost")

// Config names the bridge and its database.
type Config struct {
	// Database is the OVSDB endpoint, "unix:PATH". Empty: DefaultDatabase.
	Database string
	// Name is the bridge's name. Empty: DefaultName.
	Name string
}

// Bridge is one bridge of the local switch. Its methods can be called from any
// goroutine and wait, as long as their context allows, for Run to be connected.
type Bridge struct {
	database string
	name     string
	log      hclog.Logger

	mu      sync.Mutex
	current *session      // nil while there is no connection
	changed chan struct{} // closed and replaced whenever current or its rows change
	dialErr error         // why there is no connection

	names   nameLocks
	numbers numbers
}

// New makes a Bridge. Nothing happens until Run.
func New(config Config, log hclog.Logger) *Bridge {
	if config.Database == "" {
		config.Database = DefaultDatabase
	}
	if config.Name == "" {
		config.Name = DefaultName
	}
	return &Bridge{
		database: config.Database,
		name:     config.Name,
		log:      log,
		changed:  make(chan struct{}),
	}
}

// Name is the bridge's name.
func (b *Bridge) Name() string { return b.name }

// Run keeps the connection to the database until ctx ends, then returns nil. A
// database that is away is dialled again and again; that is logged once.
func (b *Bridge) Run(ctx context.Context) error {
	wait := retryFirst
	away := false
	for ctx.Err() == nil {
		s, err := dial(ctx, b.database, b.touch)
		if err != nil {
			b.publish(nil, err)
			if !away && ctx.Err() == nil {
				b.log.Warn("ovsdb is away, trying again", "database", b.database, "error", err)
			}
			away = true
			pause(ctx, wait)
			wait = min(2*wait, retryMost)
			continue
		}
		if away {
			b.log.Info("ovsdb is back", "database", b.database)
		}
		wait, away = retryFirst, true
		b.publish(s, nil)
		err = s.serve(ctx)
		b.publish(nil, err)
		if ctx.Err() == nil {
			b.log.Warn("ovsdb connection lost", "database", b.database, "error", err)
		}
	}
	return nil
}

// pause waits for d or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// publish makes s (nil: none, because of err) the connection that calls use.
func (b *Bridge) publish(s *session, err error) {
	b.mu.Lock()
	b.current, b.dialErr = s, err
	b.mu.Unlock()
	b.touch()
}

// touch wakes everybody who waits for a change. They look again for themselves: a
// wake-up carries no news, so none can be lost or stale.
func (b *Bridge) touch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.changed)
	b.changed = make(chan struct{})
}

// look answers the connection and a channel that is closed at the next change.
func (b *Bridge) look() (s *session, changed <-chan struct{}, dialErr error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current, b.changed, b.dialErr
}

// connected waits for a connection.
func (b *Bridge) connected(ctx context.Context) (*session, error) {
	for {
		s, changed, dialErr := b.look()
		if s != nil {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if dialErr != nil {
				return nil, fmt.Errorf("connect to ovsdb at %s: %w (%w)", b.database, dialErr, ctx.Err())
			}
			return nil, fmt.Errorf("connect to ovsdb at %s: %w", b.database, ctx.Err())
		}
	}
}

// await waits on s until done answers true. It returns errLost when s ends first.
// what says, for the error, what was waited for.
func (b *Bridge) await(ctx context.Context, s *session, what string, done func() bool) error {
	for {
		current, changed, _ := b.look()
		if current != s {
			return errLost
		}
		if done() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, ctx.Err())
		}
	}
}

// retried calls try with a connection, again and again while the connection is
// lost under it. try must therefore be idempotent.
func (b *Bridge) retried(ctx context.Context, try func(s *session) error) error {
	for {
		s, err := b.connected(ctx)
		if err != nil {
			return err
		}
		err = try(s)
		if !errors.Is(err, errLost) {
			return err
		}
		// Run has not taken s away yet, perhaps: wait for that, or this would spin.
		if err := b.gone(ctx, s); err != nil {
			return err
		}
	}
}

// gone waits until s is no longer the connection.
func (b *Bridge) gone(ctx context.Context, s *session) error {
	for {
		current, changed, _ := b.look()
		if current != s {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for ovsdb to come back: %w", ctx.Err())
		}
	}
}
