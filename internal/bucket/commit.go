package bucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/damask-sdn/damask/internal/bus"
)

const (
	// MaxWrites is the most keys that one transaction may write: the server's
	// limit for an atomic batch.
	MaxWrites = 1000
	// answerTime is how long a commit waits for its answer before it is sent
	// again. The server remembers commit ids, so being hasty does no harm.
	answerTime = 2 * time.Second
)

// Errors of Update, to be told apart with errors.Is.
var (
	// ErrOutcomeUnknown: the context ended before the store said whether the
	// commit was applied. It was applied whole or not at all.
	ErrOutcomeUnknown = errors.New("commit may or may not have been applied")
	// ErrTooManyWrites: the transaction writes more than MaxWrites keys.
	ErrTooManyWrites = errors.New("too many keys in one transaction")
)

// Header names and server error codes of JetStream. Nats-Batch-* begin with
// nats-server 2.12.
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
	headerExpected      = "Nats-Expected-Last-Subject-Sequence"
	headerMessageID     = "Nats-Msg-Id"
	headerTTL           = "Nats-TTL"
	operationDelete     = "DEL"

	codeWrongSequence      = 10071 // names the sequence found
	codeWrongSequenceInUse = 10164 // somebody else's commit of the key is under way
	codeDuplicate          = 10201 // a message id of the batch was stored before
	codeDuplicateInFlight  = 10158 // the same message id is being stored
	codeIncompleteBatch    = 10176 // a part of the batch did not arrive here
)

// conflict says that a key that a commit writes had been changed. last is the
// sequence that the store holds for it, when known.
type conflict struct {
	last  uint64
	known bool
}

// commit applies the writes, or says why not. It settles doubt: see the package
// comment.
func (b *Bucket) commit(ctx context.Context, writes []*write) (uint64, *conflict, error) {
	if len(writes) > MaxWrites {
		return 0, nil, fmt.Errorf("%w: %d, at most %d", ErrTooManyWrites, len(writes), MaxWrites)
	}
	id := nuid.Next()
	doubt := false
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		ans := b.send(ctx, id, writes, doubt)
		switch {
		case ans.err == nil && ans.conflict == nil:
			return ans.sequence, nil, nil
		case ans.duplicate:
			sequence, err := b.lastSequence(ctx)
			if err == nil {
				return sequence, nil, nil
			}
		case ans.conflict != nil && !doubt:
			return 0, ans.conflict, nil
		case ans.conflict != nil:
			applied, sequence, err := b.settle(ctx, id, writes)
			switch {
			case err == nil && applied:
				return sequence, nil, nil
			case err == nil:
				return 0, ans.conflict, nil
			case errors.Is(err, ErrOutcomeUnknown):
				return 0, nil, err
			}
		case ans.refused:
			return 0, nil, fmt.Errorf("commit %d keys: %w", len(writes), ans.err)
		}
		doubt = doubt || ans.lost
		b.stats.resends.Add(1)
		if err := sleep(ctx, pause); err != nil {
			if doubt {
				return 0, nil, fmt.Errorf("commit %d keys: %w: %w", len(writes), ErrOutcomeUnknown, err)
			}
			return 0, nil, fmt.Errorf("commit %d keys: %w (last answer: %w)", len(writes), err, ans.err)
		}
	}
}

// answer is what is known after one sending of a commit. With none of the flags
// set, an error means that this sending was certainly not applied, and that
// sending again may help.
type answer struct {
	sequence  uint64
	conflict  *conflict
	err       error
	duplicate bool // an earlier sending was applied
	lost      bool // nobody knows whether this sending was applied
	refused   bool // sending again does not help
}

// send sends the commit once. A single key is a plain publish, but not when an
// earlier sending is in doubt: only batches look for duplicates first.
func (b *Bucket) send(ctx context.Context, id string, writes []*write, asBatch bool) answer {
	asBatch = asBatch || len(writes) > 1
	batchID := nuid.Next() // a new one each time: pieces of a former sending may still wait at the server
	var last *nats.Msg
	for i, w := range writes {
		msg := b.message(id, i, w)
		if asBatch {
			msg.Header.Set(headerBatchID, batchID)
			msg.Header.Set(headerBatchSequence, strconv.Itoa(i+1))
		}
		if i == len(writes)-1 {
			last = msg
			break
		}
		if err := b.nc.PublishMsg(msg); err != nil {
			return unsent(err) // nothing happens without the commit mark
		}
	}
	if asBatch {
		last.Header.Set(headerBatchCommit, "1")
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	defer b.losses.during(cancel)()
	reply, err := b.nc.RequestMsgWithContext(ctx, last)
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrReconnectBufExceeded) ||
		errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrMaxPayload) {
		return unsent(err)
	}
	if err != nil {
		return answer{err: fmt.Errorf("publish: %w", err), lost: true}
	}
	return parseAnswer(reply.Data)
}

// unsent is the answer when a message certainly did not reach the store.
func unsent(err error) answer {
	return answer{
		err:     fmt.Errorf("publish: %w", err),
		refused: errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrMaxPayload),
	}
}

func (b *Bucket) message(id string, i int, w *write) *nats.Msg {
	msg := nats.NewMsg(b.subject(w.key))
	msg.Header.Set(headerMessageID, id+"."+strconv.Itoa(i))
	msg.Header.Set(headerExpected, strconv.FormatUint(w.expected, 10))
	if w.deleted {
		msg.Header.Set(bus.HeaderOperation, operationDelete)
		msg.Header.Set(headerTTL, b.tombstoneLife.String())
		return msg
	}
	msg.Data = w.value
	return msg
}

func parseAnswer(data []byte) answer {
	var ack struct {
		Error     *jetstream.APIError `json:"error"`
		Sequence  uint64              `json:"seq"`
		Duplicate bool                `json:"duplicate"`
	}
	if err := json.Unmarshal(data, &ack); err != nil {
		return answer{err: fmt.Errorf("read the store's answer: %w", err), lost: true}
	}
	if ack.Error == nil {
		if ack.Sequence == 0 {
			return answer{err: errors.New("the store's answer has no sequence"), lost: true}
		}
		return answer{sequence: ack.Sequence, duplicate: ack.Duplicate}
	}
	ans := answer{err: ack.Error}
	switch ack.Error.ErrorCode {
	case codeWrongSequence:
		_, number, _ := strings.Cut(ack.Error.Description, ": ")
		last, err := strconv.ParseUint(number, 10, 64)
		ans.conflict = &conflict{last: last, known: err == nil}
	case codeWrongSequenceInUse:
		ans.conflict = &conflict{}
	case codeDuplicate:
		ans.duplicate = true
	case codeDuplicateInFlight, codeIncompleteBatch:
	default:
		ans.refused = true
	}
	return ans
}

// settle finds out whether a commit in doubt was applied, after a further
// sending met a conflict. From then on no sending of it can still be applied.
// One key that carries the id proves that all were written; one that still has
// the expected sequence proves that none was.
func (b *Bucket) settle(ctx context.Context, id string, writes []*write) (applied bool, sequence uint64, err error) {
	for _, w := range writes {
		last, messageID, err := b.lastOf(ctx, w.key)
		if err != nil {
			return false, 0, err
		}
		if strings.HasPrefix(messageID, id+".") {
			sequence, err := b.lastSequence(ctx)
			return true, sequence, err
		}
		if last == w.expected {
			return false, 0, nil
		}
	}
	return false, 0, fmt.Errorf("%w: others have written all its keys since", ErrOutcomeUnknown)
}

// lastOf answers the sequence and message id of the last message of a key, 0
// when there is none, as the stream's leader says.
func (b *Bucket) lastOf(ctx context.Context, key string) (uint64, string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	stream, err := b.js.Stream(ctx, b.stream)
	if err != nil {
		return 0, "", fmt.Errorf("look up stream %s: %w", b.stream, err)
	}
	msg, err := stream.GetLastMsgForSubject(ctx, b.subject(key))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", fmt.Errorf("read last message of %s: %w", key, err)
	}
	return msg.Sequence, msg.Header.Get(headerMessageID), nil
}

func (b *Bucket) lastSequence(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	stream, err := b.js.Stream(ctx, b.stream)
	if err != nil {
		return 0, fmt.Errorf("look up stream %s: %w", b.stream, err)
	}
	return stream.CachedInfo().State.LastSeq, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
