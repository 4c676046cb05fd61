package flowsync

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// ErrUnavailable says that the switch cannot be reached, or has not been compared since it came back. What was asked for
// is kept as desired, and the next Reconcile installs it.
var ErrUnavailable = errors.New("the switch is not available")

const (
	// dialLimit bounds one attempt to connect, greeting included.
	dialLimit = 5 * time.Second
	// retryEvery is the pause between attempts. Dialling a unix socket costs microseconds, and an ovs-vswitchd that
	// restarts is to be found again soon: until then nothing can be repaired.
	retryEvery = 100 * time.Millisecond
)

// Config says which bridge to keep.
type Config struct {
	// Socket is the bridge's management socket, such as /run/openvswitch/br0.mgmt. Required.
	Socket string
	// Fragments is set at each connection, since ovs-vswitchd forgets it when it restarts. The zero value leaves the
	// switch as it is.
	Fragments openflow.Fragments
	// Meters are kept in the switch, from before flows that name them: they are compared whenever flows are. A meter
	// that is not among them is left alone.
	Meters []openflow.Meter
	// Copied is called with each copy of a packet that a flow sends, by one goroutine. Copies that come while it is
	// busy are lost beyond a bounded number. Nil: the switch sends none.
	Copied func(openflow.PacketIn)
	// Stamp is what each change leaves in the switch, for one whose cache needs that. Nil: nothing.
	Stamp *Stamp
}

// A Syncer keeps the flows of one bridge. Its methods can be called at the same time.
type Syncer struct {
	cfg       Config
	log       hclog.Logger
	connected chan struct{}
	kick      chan struct{} // Asks Run for an attempt to connect without a pause.
	auditing  chan struct{} // Holds a token; whoever compares has it.

	mutex    sync.Mutex
	conn     *openflow.Conn // Nil while there is none.
	attempt  error          // Why the last attempt to connect failed.
	attempts uint64         // To connect, that have ended.
	synced   bool           // What is installed is known.
	known    bool           // What is desired is known.
	table    table
	stamped  stamped
	inFlight int           // Applies that are waiting for the switch.
	draining bool          // A new Apply has to wait.
	settled  chan struct{} // Closed, and made anew, when something changed that others may wait for.
	written  uint64
	deleted  uint64
}

// New makes a Syncer that has no connection until Run runs.
func New(cfg Config, log hclog.Logger) *Syncer {
	s := &Syncer{
		cfg: cfg, log: log, table: newTable(),
		connected: make(chan struct{}, 1), kick: make(chan struct{}, 1), auditing: make(chan struct{}, 1),
		settled: make(chan struct{}),
	}
	s.auditing <- struct{}{}
	return s
}

// Run keeps the connection open until the context ends.
func (s *Syncer) Run(ctx context.Context) error {
	complained := false
	for ctx.Err() == nil {
		conn, err := s.dial(ctx)
		s.attach(conn, err)
		if err != nil {
			if !complained && ctx.Err() == nil {
				s.log.Warn("switch cannot be reached, trying on", "socket", s.cfg.Socket, "error", err)
			}
			complained = true
			s.pause(ctx)
			continue
		}
		complained = false
		s.log.Info("switch connected", "socket", s.cfg.Socket)
		copies := s.takeCopies(conn)
		select {
		case <-ctx.Done():
		case <-conn.Done():
			s.log.Warn("switch connection lost", "socket", s.cfg.Socket, "error", conn.Err())
		}
		s.attach(nil, conn.Err())
		_ = conn.Close()
		copies.Wait()
	}
	return nil
}

// Connected has a token after each connection; the receiver is to call Reconcile. There is one token, whatever the number
// of connections since it was last taken, so there should be one receiver.
func (s *Syncer) Connected() <-chan struct{} { return s.connected }

// Counters returns how many flows were written (added or modified) and deleted since the start, as the switch confirmed. The
// Stamp's do not count.
func (s *Syncer) Counters() (written, deleted uint64) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.written, s.deleted
}

// Size is the number of flows that are known to be installed.
func (s *Syncer) Size() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.table.present
}

func (s *Syncer) dial(ctx context.Context) (*openflow.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	conn, err := openflow.Dial(ctx, s.cfg.Socket)
	if err != nil {
		return nil, err
	}
	switch {
	case s.cfg.Copied != nil:
		err = conn.Listen(ctx, s.cfg.Fragments)
	case s.cfg.Fragments != openflow.FragmentsNormal:
		err = conn.SetFragments(ctx, s.cfg.Fragments)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// takeCopies hands over the copies that come by a connection, until it ends.
func (s *Syncer) takeCopies(conn *openflow.Conn) *sync.WaitGroup {
	var taking sync.WaitGroup
	if s.cfg.Copied != nil {
		taking.Go(func() {
			for copied := range conn.Copies() {
				s.cfg.Copied(copied)
			}
		})
	}
	return &taking
}

// attach makes the outcome of an attempt, or the end of a connection, known.
func (s *Syncer) attach(conn *openflow.Conn, cause error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.conn, s.attempt, s.synced = conn, cause, false
	s.attempts++
	if conn != nil {
		select {
		case s.connected <- struct{}{}:
		default:
		}
	}
	s.wake()
}

func (s *Syncer) pause(ctx context.Context) {
	timer := time.NewTimer(retryEvery)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-s.kick:
	}
}

// connection returns the connection. If there is none, it asks for an attempt and waits for the outcome of that: a bridge
// that was made a moment ago is found at once.
func (s *Syncer) connection(ctx context.Context) (*openflow.Conn, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	// The attempt that is under way may have been too early, hence a second one.
	for last := s.attempts + 2; s.conn == nil; {
		if s.attempts >= last {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, s.attempt)
		}
		select {
		case s.kick <- struct{}{}:
		default:
		}
		if err := s.wait(ctx); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return s.conn, nil
}

// wait lets go of the mutex until somebody calls wake.
func (s *Syncer) wait(ctx context.Context) error {
	settled := s.settled
	s.mutex.Unlock()
	defer s.mutex.Lock()
	select {
	case <-settled:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// wake wakes all who wait. The mutex is held.
func (s *Syncer) wake() {
	close(s.settled)
	s.settled = make(chan struct{})
}
