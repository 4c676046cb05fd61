package bucket

import (
	"strconv"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// message is one of a stream, as the feed sees it.
type message struct {
	jetstream.Msg // what is not below is not used
	key, value    string
	batch         string
	number        int  // in its batch
	ends          bool // its batch
	sequence      uint64
	consumer      uint64
	pending       uint64
}

func (m message) Subject() string { return "$KV.damask_test." + m.key }
func (m message) Data() []byte    { return []byte(m.value) }

func (m message) Headers() nats.Header {
	h := nats.Header{}
	if m.batch != "" {
		h.Set(headerBatchID, m.batch)
		h.Set(headerBatchSequence, strconv.Itoa(m.number))
	}
	if m.ends {
		h.Set(headerBatchCommit, "1")
	}
	return h
}

func (m message) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{
		Sequence: jetstream.SequencePair{Stream: m.sequence, Consumer: m.consumer}, NumPending: m.pending,
	}, nil
}

// TestMessagesThatWereReplacedOnTheWayLeaveNoPartOfABatch plays what a slow
// reader gets when batches write the same keys faster than it reads: of a batch
// only what no later one has replaced yet.
func TestMessagesThatWereReplacedOnTheWayLeaveNoPartOfABatch(t *testing.T) {
	for name, stream := range map[string][]message{
		"the end is missing": {
			{key: "x.1", value: "a", batch: "A", number: 1, sequence: 1, pending: 5},
			{key: "x.2", value: "a", batch: "A", number: 2, ends: true, sequence: 2, pending: 4},
			{key: "x.1", value: "b", batch: "B", number: 1, sequence: 3, pending: 3},
			{key: "x.1", value: "c", batch: "C", number: 1, sequence: 5, pending: 1},
			{key: "x.2", value: "c", batch: "C", number: 2, ends: true, sequence: 6, pending: 0},
		},
		"the beginning is missing": {
			{key: "x.1", value: "a", batch: "A", number: 1, sequence: 1, pending: 5},
			{key: "x.2", value: "a", batch: "A", number: 2, ends: true, sequence: 2, pending: 4},
			{key: "x.2", value: "b", batch: "B", number: 2, ends: true, sequence: 4, pending: 2},
			{key: "x.1", value: "c", batch: "C", number: 1, sequence: 5, pending: 1},
			{key: "x.2", value: "c", batch: "C", number: 2, ends: true, sequence: 6, pending: 0},
		},
		"another key comes in between": {
			{key: "x.1", value: "a", batch: "A", number: 1, sequence: 1, pending: 5},
			{key: "x.2", value: "a", batch: "A", number: 2, ends: true, sequence: 2, pending: 4},
			{key: "x.1", value: "b", batch: "B", number: 1, sequence: 3, pending: 3},
			{key: "y.1", value: "alone", sequence: 7, pending: 2},
			{key: "x.1", value: "c", batch: "C", number: 1, sequence: 8, pending: 1},
			{key: "x.2", value: "c", batch: "C", number: 2, ends: true, sequence: 9, pending: 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := &Bucket{cfg: Config{Name: "damask_test"}, view: newView(nil), ready: make(chan struct{}), log: hclog.NewNullLogger()}
			f := feed{Bucket: b, newest: stream[len(stream)-1].sequence}
			for i, m := range stream {
				m.consumer = uint64(i + 1)
				if err := f.take(m); err != nil {
					t.Fatal(err)
				}
				one, _ := b.view.snapshot().Get("x.1")
				two, _ := b.view.snapshot().Get("x.2")
				if string(one.Value) != string(two.Value) {
					t.Fatalf("after message %d a part of a batch is seen: %q and %q", i+1, one.Value, two.Value)
				}
			}
			if e, _ := b.view.snapshot().Get("x.1"); string(e.Value) != "c" {
				t.Errorf("at the end there is %q, want what was written last", e.Value)
			}
		})
	}
}
