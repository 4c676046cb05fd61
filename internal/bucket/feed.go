package bucket

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/damask-sdn/damask/internal/bus"
)

const (
	// feedHeartbeat is how often the server shows that a silent feed is alive;
	// two missed ones end it.
	feedHeartbeat = time.Second
	// feedAhead is how many messages the server may send ahead.
	feedAhead = 2000
)

// feed keeps the view fed until ctx ends.
func (b *Bucket) feed(ctx context.Context) {
	f := feed{Bucket: b}
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		started := time.Now()
		err := f.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(started) > 5*time.Second {
			pause = 20 * time.Millisecond
		}
		b.log.Warn("view no longer fed, will retry", "bucket", b.cfg.Name, "error", err)
		if sleep(ctx, pause) != nil {
			return
		}
	}
}

// feed reads the stream in order. A session ends at the first doubt about its
// completeness; the next one goes on where the view is, or rebuilds it.
type feed struct {
	*Bucket
	created time.Time // of the stream that the view shows; zero: none yet
	cutOff  time.Time // when the last session ended

	rebuild  bool // root collects a new view
	root     *node
	batch    string // id of the batch whose messages wait in held
	held     []item
	received uint64 // messages of this session
	newest   uint64 // sequence of the stream when the session began
}

func (f *feed) session(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	defer func() { f.cutOff = time.Now().Round(0) }() // wall clock: a machine may sleep

	status := f.nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case s := <-status:
			cancel(fmt.Errorf("connection is %s", s))
		case <-ctx.Done():
		}
	}()
	defer func() {
		cancel(nil)
		<-watched
		f.nc.RemoveStatusListener(status)
	}()

	messages, err := f.subscribe(ctx)
	if err != nil {
		return err
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read the stream: %w", errors.Join(err, context.Cause(ctx)))
		}
		if err := f.take(msg); err != nil {
			return err
		}
	}
}

// subscribe decides between going on and rebuilding, and opens the feed.
func (f *feed) subscribe(parent context.Context) (jetstream.MessagesContext, error) {
	ctx, cancel := context.WithTimeout(parent, 5*time.Second)
	defer cancel()
	stream, err := f.js.Stream(ctx, f.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err := f.ensureStream(ctx); err != nil {
			return nil, err
		}
		stream, err = f.js.Stream(ctx, f.stream)
	}
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", f.stream, err)
	}
	info := stream.CachedInfo()
	shown := f.view.snapshot().sequence
	resume := info.Created.Equal(f.created) && info.State.LastSeq >= shown &&
		time.Now().Round(0).Sub(f.cutOff) < f.tombstoneLife/2

	f.rebuild, f.root, f.batch, f.held, f.received = !resume, nil, "", nil, 0
	f.newest = info.State.LastSeq
	start := uint64(1)
	if resume {
		start = shown + 1
	}
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       start,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: 10 * time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("create consumer of %s: %w", f.stream, err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(feedAhead), jetstream.PullHeartbeat(feedHeartbeat))
	if err != nil {
		return nil, fmt.Errorf("consume %s: %w", f.stream, err)
	}
	f.created = info.Created
	if consumer.CachedInfo().NumPending == 0 {
		f.caughtUp(max(f.newest, start-1))
	}
	return messages, nil
}

// take takes over one message. The messages of a batch wait for the one that
// ends it. That one may be missing: when its key was written again since, a
// message of another batch follows; when it was a tombstone that has ended, the
// stream has counted past the batch already.
func (f *feed) take(msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("read message metadata: %w", err)
	}
	f.received++
	if meta.Sequence.Consumer != f.received {
		return fmt.Errorf("message %d of the feed is missing", f.received)
	}
	header := msg.Headers()
	it := item{
		key:      strings.TrimPrefix(msg.Subject(), f.subject("")),
		revision: meta.Sequence.Stream,
		deleted:  header.Get(bus.HeaderOperation) != "", // DEL or, by hand, PURGE
	}
	if !it.deleted {
		it.value = msg.Data()
	}
	if f.rebuild {
		f.root = f.root.with(it)
	}
	batch := header.Get(headerBatchID)
	if batch != f.batch && len(f.held) > 0 {
		f.release()
	}
	f.batch = batch
	f.held = append(f.held, it)
	last := meta.NumPending == 0
	if batch != "" && header.Get(headerBatchCommit) == "" && (!last || it.revision >= f.newest) {
		return nil
	}
	f.release()
	if f.rebuild && last {
		f.caughtUp(max(it.revision, f.newest))
	}
	return nil
}

// release shows what was held, unless a new view is being collected.
func (f *feed) release() {
	if !f.rebuild {
		f.view.apply(f.held, f.held[len(f.held)-1].revision)
	}
	f.batch, f.held = "", nil
}

// caughtUp ends a rebuild, if there is one: the new view is complete.
func (f *feed) caughtUp(sequence uint64) {
	if f.rebuild {
		f.view.replace(f.root, sequence)
		f.rebuild, f.root = false, nil
		f.stats.rebuilds.Add(1)
	}
	select {
	case <-f.ready:
	default:
		close(f.ready)
	}
}
