package bucket

import (
	"context"
	"time"

	"github.com/damask-sdn/damask/internal/bus"
	busv1 "github.com/damask-sdn/damask/proto/damask/bus/v1"
	"google.golang.org/protobuf/proto"
)

const (
	headPeriod = 5 * time.Second        // a note for every kind at least so often
	headDelay  = 200 * time.Millisecond // from a commit to the note that tells of it
	headPause  = time.Second            // from such a note to the next
)

// noteCommit asks for a head note soon.
func (b *Bucket) noteCommit() {
	select {
	case b.committed <- struct{}{}:
	default:
	}
}

// publishHeads publishes the head notes, one for each kind on
// <subject>.head.<kind>, until ctx ends. Losing one costs nothing, so errors
// are not worth a log line: the connection logs its own.
func (b *Bucket) publishHeads(ctx context.Context) {
	if b.Ready(ctx) != nil {
		return
	}
	told := make(map[string]uint64) // kind to the newest sequence told of it
	period := time.NewTicker(headPeriod)
	defer period.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-period.C:
			b.publishHead(told, true)
		case <-b.committed:
			if sleep(ctx, headDelay) != nil {
				return
			}
			b.publishHead(told, false)
			if sleep(ctx, headPause-headDelay) != nil {
				return
			}
		}
	}
}

// publishHead publishes the notes of all kinds, or of those that changed.
func (b *Bucket) publishHead(told map[string]uint64, all bool) {
	for kind, note := range b.view.notes() {
		newest := uint64(0)
		for _, sequence := range note.Shards {
			newest = max(newest, sequence)
		}
		if !all && newest == told[kind] {
			continue
		}
		data, err := proto.Marshal(note)
		if err != nil || b.nc.Publish(bus.HeadSubject(b.cfg.Subject, kind), data) != nil {
			continue
		}
		told[kind] = newest
	}
}

func (v *view) notes() map[string]*busv1.Head {
	v.mu.Lock()
	defer v.mu.Unlock()
	sequence := v.current.Load().sequence
	notes := make(map[string]*busv1.Head, len(v.heads))
	for kind, shards := range v.heads {
		notes[kind] = &busv1.Head{Sequence: sequence, Shards: append([]uint64(nil), shards[:]...), Created: v.created.UnixNano()}
	}
	return notes
}

// Newest answers the sequence of the newest change of a kind of keys that the
// view shows, deletions included; 0 when there was none. Deletions of long ago
// may be forgotten.
func (b *Bucket) Newest(kind string) uint64 {
	b.view.mu.Lock()
	defer b.view.mu.Unlock()
	newest := uint64(0)
	if shards := b.view.heads[kind]; shards != nil {
		for _, sequence := range shards {
			newest = max(newest, sequence)
		}
	}
	return newest
}
