// Package follow keeps a process's copy of what a control service owns, and
// tells of every change.
//
// It owns the way from the service's snapshot (List over gRPC) and the change
// bus (NATS subjects) to one consistent copy. A follower subscribes first, then
// lists, and applies whatever is newer by the revision of each object. It lists
// again when it may have missed something: a change names a predecessor that it
// never saw, the connection was lost, or a head note of the service names a
// change that it does not have. Then it applies only the difference.
//
// It promises:
//
//   - The copy converges to the service's state by itself after any failure,
//     and never shows an object older than it showed before, unless the
//     service's store itself was replaced by an older one.
//   - OnChange is told of every change of the copy, in order, one at a time.
//   - Nothing waits for services that are away: reads answer what is known. With
//     a cache file, that is what was known when the process last ran.
//
// It must not know what the objects mean, and must not publish.
//
// Used by services/nodeagent, and by services that follow one another.
package follow

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bus"
)

// Source is a kind of objects that a service owns.
type Source[T proto.Message] struct {
	// Service that owns them, "tenancy". Required.
	Service string
	// Kind of their keys, "netnamespace". Required.
	Kind string
	// Nested says that keys have several names. An object's name is then its
	// names joined by slashes ("shop/web"), and interest is in a first name
	// alone ("shop").
	Nested bool
	// List answers all objects (names is nil), or those of the names that
	// exist, and the store sequence that the answer reflects: of several pages,
	// the lowest. Required.
	List func(ctx context.Context, names []string) (objects []T, sequence uint64, err error)
	// Name answers the name of an object. Required.
	Name func(T) string
	// Revision answers the store sequence of an object's last change. Required.
	// On objects from the bus the follower has filled the field "revision".
	Revision func(T) uint64
}

// Options of a follower.
type Options[T proto.Message] struct {
	// All follows every object. Otherwise interest is by name: see Want.
	All bool
	// Cache is the path of a file that keeps what is known over a restart.
	// Empty: none.
	Cache string
	// OnChange is told of each change of the copy, the objects from the cache
	// first. It is never called concurrently. While it blocks, events queue up.
	OnChange func(Event[T])
	// OnReplaced is told when the service's store is seen to be another one than before:
	// what was written there has to be written again. The copy follows a while later, when
	// the service has had time to take over what there is. It must not wait; nil: nobody asks.
	OnReplaced func()
	// Log is for what an operator should know. Required.
	Log hclog.Logger
}

// Event is one change of the copy.
type Event[T proto.Message] struct {
	// Name of the object.
	Name string
	// Object is the new state; the zero value when Deleted. It is shared: do
	// not change it.
	Object T
	// Deleted says that the object is gone.
	Deleted bool
	// Revision is the store sequence of the change. When a deletion was noticed
	// only by the object's absence, it is that of the snapshot.
	Revision uint64
}

// Follower is the copy. Its methods may be called by many goroutines at once.
type Follower[T proto.Message] struct {
	nc      *nats.Conn
	source  Source[T]
	options Options[T]
	log     hclog.Logger
	codec   codec[T]
	started time.Time
	pace    pace

	wakeLister, wakeTeller, wakeKeeper, wakeJudge signal

	mu        sync.Mutex // guards what follows
	running   bool
	interests map[string]*interest[T]
	dormant   map[string]record[T] // from the cache, not asked for yet
	remember  map[string]bool      // names of the cache of which everything was known, the same
	queue     []Event[T]
	queued    uint64        // events that were ever queued
	told      uint64        // those of them that OnChange is done with, or that nobody wants any more
	changed   chan struct{} // closed and replaced at each change that somebody may wait for
	saved     bool          // the cache file holds the present copy
	cached    bool          // the copy began with what the cache file held

	created    int64     // of the store, by head notes, as they say it; 0: not known
	latestNote []uint64  // shards of the newest head note that is to be judged
	nextByNote time.Time // before it, notes do not make a follower by name list
	staleSince time.Time // since when all snapshots are older than the copy; zero: they are not
}

// pace is the follower's patience; tests are less patient.
type pace struct {
	list       time.Duration // a call of List may take so long
	retryMin   time.Duration // first pause after a List that failed; doubles
	retryMax   time.Duration
	noteGrace  time.Duration // changes may come so much later than the note of them
	noteEvery  time.Duration // by name, notes lead to a List at most once in this, up to twice
	staleAfter time.Duration // snapshots older than the copy for so long: the store was replaced; and the copy follows another store after that
	save       time.Duration // from one writing of the cache file to the next
	dormant    time.Duration // unwanted objects stay in the cache file so long
}

func defaultPace() pace {
	return pace{
		list: 30 * time.Second, retryMin: 50 * time.Millisecond, retryMax: 5 * time.Second,
		noteGrace: 250 * time.Millisecond, noteEvery: 10 * time.Second,
		staleAfter: time.Minute, save: 100 * time.Millisecond, dormant: 10 * time.Minute,
	}
}

// signal wakes one goroutine; several before it looks count as one.
type signal chan struct{}

func (s signal) give() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// New makes a follower and reads its cache file. A cache that cannot be used is
// a warning in the log, no more.
func New[T proto.Message](nc *nats.Conn, source Source[T], options Options[T]) *Follower[T] {
	f := &Follower[T]{
		nc: nc, source: source, options: options,
		log:       options.Log.Named("follow").With("service", source.Service, "kind", source.Kind),
		codec:     newCodec[T](),
		started:   time.Now(),
		pace:      defaultPace(),
		interests: make(map[string]*interest[T]),
		dormant:   make(map[string]record[T]),
		remember:  make(map[string]bool),
		changed:   make(chan struct{}),
		saved:     true,

		wakeLister: make(signal, 1), wakeTeller: make(signal, 1),
		wakeKeeper: make(signal, 1), wakeJudge: make(signal, 1),
	}
	f.loadCache()
	if options.All {
		f.Want("")
	}
	return f
}

// Run keeps the copy until ctx ends. It returns an error only when it cannot
// subscribe at all, because the connection was closed for good.
func (f *Follower[T]) Run(ctx context.Context) error {
	status := f.nc.StatusChanged(nats.CONNECTED)
	defer f.nc.RemoveStatusListener(status)
	head, err := f.nc.Subscribe(bus.HeadSubject(bus.Prefix(f.source.Service), f.source.Kind), f.takeNote)
	if err != nil {
		return fmt.Errorf("follow %s %s: subscribe to head notes: %w", f.source.Service, f.source.Kind, err)
	}
	if err := f.subscribeAll(); err != nil {
		_ = head.Unsubscribe() // the connection is closed
		return err
	}
	var all sync.WaitGroup
	all.Go(func() { f.relistOnReconnect(ctx, status) })
	all.Go(func() { f.judgeNotes(ctx) })
	all.Go(func() { f.keepCache(ctx) })
	all.Go(func() { f.tell(ctx) })
	all.Go(func() { f.keepListing(ctx) })
	all.Wait()
	_ = head.Unsubscribe() // fails only when the connection is closed already
	f.unsubscribeAll()
	return nil
}

// tell calls OnChange for the queued events.
func (f *Follower[T]) tell(ctx context.Context) {
	for {
		f.mu.Lock()
		events := f.queue
		f.queue = nil
		f.mu.Unlock()
		for i, e := range events {
			if ctx.Err() != nil {
				f.mu.Lock()
				f.queue = append(events[i:], f.queue...)
				f.told += uint64(i)
				f.mu.Unlock()
				return
			}
			f.options.OnChange(e)
		}
		if len(events) > 0 {
			f.mu.Lock()
			f.told += uint64(len(events))
			f.announce()
			f.mu.Unlock()
			continue
		}
		select {
		case <-f.wakeTeller:
		case <-ctx.Done():
			return
		}
	}
}

// enqueue holds an event for tell. The lock is held.
func (f *Follower[T]) enqueue(e Event[T]) {
	f.saved = false
	f.wakeKeeper.give()
	if f.options.OnChange != nil {
		f.queue = append(f.queue, e)
		f.queued++
		f.wakeTeller.give()
	}
}

// relistOnReconnect marks everything as possibly missed after each reconnect.
func (f *Follower[T]) relistOnReconnect(ctx context.Context, status <-chan nats.Status) {
	for {
		select {
		case <-status:
		case <-ctx.Done():
			return
		}
		f.mu.Lock()
		for _, in := range f.interests {
			in.doubt(0)
		}
		f.mu.Unlock()
		f.wakeLister.give()
	}
}
