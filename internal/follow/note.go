package follow

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bus"
	busv1 "github.com/damask-sdn/damask/proto/damask/bus/v1"
)

// takeNote takes over a head note; it is judged a little later.
func (f *Follower[T]) takeNote(msg *nats.Msg) {
	var note busv1.Head
	if err := proto.Unmarshal(msg.Data, &note); err != nil || len(note.GetShards()) != bus.Shards {
		return // of another version; the next list heals what is missing
	}
	f.mu.Lock()
	f.latestNote = note.GetShards()
	another := f.created != 0 && note.GetCreated() > f.created
	f.created = max(f.created, note.GetCreated())
	f.mu.Unlock()
	f.wakeJudge.give()
	if another {
		f.replaced()
	}
}

// replaced notes that the service's store is another one, whatever its sequences are. Some of
// what was in the one before may not be in this one yet, and replicas may be that have not
// seen it: what is known stays for a while.
func (f *Follower[T]) replaced() {
	f.log.Warn("the service's store is another one, taking it over soon", "after", f.pace.staleAfter.String())
	if f.options.OnReplaced != nil {
		f.options.OnReplaced()
	}
	time.AfterFunc(f.pace.staleAfter, func() {
		f.mu.Lock()
		for _, in := range f.interests {
			in.restart()
			in.doubt(0)
		}
		f.mu.Unlock()
		f.wakeLister.give()
	})
}

// judgeNotes compares the head notes with what is known, until ctx ends. A note
// may overtake the change that it tells of, so it gets some grace.
func (f *Follower[T]) judgeNotes(ctx context.Context) {
	for {
		select {
		case <-f.wakeJudge:
		case <-ctx.Done():
			return
		}
		f.mu.Lock()
		shards := f.latestNote
		f.mu.Unlock()
		wait(ctx, f.pace.noteGrace)
		f.mu.Lock()
		behind := f.judgeNote(shards)
		f.mu.Unlock()
		if behind {
			f.wakeLister.give()
		}
	}
}

// judgeNote marks what a note shows to be missing. A follower by name shares
// its shards with others' names, so that a newer change there is often none of
// its own: it looks at notes less often. The lock is held.
func (f *Follower[T]) judgeNote(shards []uint64) (behind bool) {
	now := time.Now()
	if !f.options.All && now.Before(f.nextByNote) {
		return false
	}
	for _, in := range f.interests {
		if !in.certain() {
			continue // is being listed anyway
		}
		missing := uint64(0)
		for _, i := range f.shardsOf(in) {
			if shards[i] > in.knownOf(i) {
				missing = max(missing, shards[i])
			}
		}
		if missing > 0 {
			in.doubt(missing)
			behind = true
		}
	}
	if behind {
		f.nextByNote = now.Add(f.pace.noteEvery + rand.N(f.pace.noteEvery))
	}
	return behind
}

func (f *Follower[T]) shardsOf(in *interest[T]) []int {
	if in.name != "" {
		return []int{bus.Shard(f.key(in.name))}
	}
	all := make([]int, bus.Shards)
	for i := range all {
		all[i] = i
	}
	return all
}
