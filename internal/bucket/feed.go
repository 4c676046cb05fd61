package bucket

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
	batch    string // id of the batch that has begun and not ended
	inBatch  int    // messages of it so far
	held     []item // what waits to be shown, in order
	through  uint64 // held is not shown before this message of the session
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

	f.rebuild, f.root, f.received = !resume, nil, 0
	f.batch, f.inBatch, f.held, f.through = "", 0, nil, 0
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
// ends it, so that it is seen whole.
//
// Messages of it may be missing, because their keys were written again before
// they were sent to us. Then what has come of it would be seen without the rest,
// and so it waits, together with all that follows, until everything that the
// stream held at that moment has come: what replaced the missing ones is there.
// The end of a batch may also be a tombstone that has ended; then the stream has
// counted past the batch already.
func (f *feed) take(msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("read message metadata: %w", err)
	}
	f.received++
	if meta.Sequence.Consumer != f.received {
		return fmt.Errorf("message %d of the feed is missing", f.received)
	}
	it := f.item(msg, meta)
	if f.rebuild {
		f.root = f.root.with(it)
	}
	batch, whole, ended := f.follow(msg.Headers())
	if !whole {
		f.through = max(f.through, f.received+meta.NumPending)
	}
	f.held = append(f.held, it)
	last := meta.NumPending == 0
	if batch != "" && !ended && (!last || it.revision >= f.newest) {
		return nil
	}
	if !last && f.received < f.through {
		return nil
	}
	f.release()
	if f.rebuild && last {
		f.caughtUp(max(it.revision, f.newest))
	}
	return nil
}

func (f *feed) item(msg jetstream.Msg, meta *jetstream.MsgMetadata) item {
	it := item{
		key:      strings.TrimPrefix(msg.Subject(), f.subject("")),
		revision: meta.Sequence.Stream,
		deleted:  msg.Headers().Get(bus.HeaderOperation) != "", // DEL or, by hand, PURGE
	}
	if !it.deleted {
		it.value = msg.Data()
	}
	return it
}

// follow keeps count of the batch that a message belongs to, if any. whole is
// false when messages of a batch turn out to be missing: of the one before, or
// of this one at its end.
func (f *feed) follow(header nats.Header) (batch string, whole, ended bool) {
	batch = header.Get(headerBatchID)
	whole = f.batch == "" || f.batch == batch
	if batch != f.batch {
		f.batch, f.inBatch = batch, 0
	}
	f.inBatch++
	ended = header.Get(headerBatchCommit) != ""
	if ended {
		whole = whole && header.Get(headerBatchSequence) == strconv.Itoa(f.inBatch)
		f.batch = ""
	}
	return batch, whole, ended
}

// release shows what was held, unless a new view is being collected.
func (f *feed) release() {
	if !f.rebuild {
		f.view.apply(f.held, f.held[len(f.held)-1].revision)
	}
	f.held = nil
}

// caughtUp ends a rebuild, if there is one: the new view is complete.
func (f *feed) caughtUp(sequence uint64) {
	if f.rebuild {
		f.view.replace(f.root, sequence, f.created)
		f.rebuild, f.root = false, nil
		f.stats.rebuilds.Add(1)
	}
	select {
	case <-f.ready:
	default:
		close(f.ready)
	}
}
