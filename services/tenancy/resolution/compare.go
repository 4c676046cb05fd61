package resolution

import (
	"bytes"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
)

// compareWith stages what differs in a snapshot from what was resolved.
func (b *book) compareWith(s bucket.Snapshot, to stage) {
	b.learnShards(s)
	keep := b.kept.learn(s)
	wanted := map[string]struct{}{}
	b.drain(func(key string, object proto.Message) {
		if object == nil {
			return // It is seen below, if it is stored.
		}
		wanted[key] = struct{}{}
		value, err := proto.MarshalOptions{Deterministic: true}.Marshal(object)
		if e, there := s.Get(key); err != nil || !there || !bytes.Equal(e.Value, value) {
			to(key, object)
		}
	})
	// What nobody wants any more goes in the opposite order.
	for _, kind := range []string{policywire.KindPodPolicies, policywire.KindPolicy, policywire.KindAddressGroup} {
		for e := range s.Scan(kind+".", "") {
			_, want := wanted[e.Key]
			_, stays := keep[e.Key]
			if !want && !stays {
				to(e.Key, nil)
			}
		}
	}
	b.forgetUnused()
}

// learnShards notes in how many shards groups are stored, so that a comparison
// does not divide them otherwise.
func (b *book) learnShards(s bucket.Snapshot) {
	for e := range s.Scan(policywire.KindAddressGroup+".", "") {
		m, err := decodeShard(e)
		if err != nil {
			continue // It is written anew, or goes.
		}
		id := policy.GroupID(m.GetGroup())
		if n := int(m.GetShards()); b.groups[id] == nil && n >= 1 && n <= policywire.MaxShards && n&(n-1) == 0 {
			b.groups[id] = newDivided(n)
		}
	}
}

// forgetUnused drops the groups that are stored, but that no policy names.
func (b *book) forgetUnused() {
	for id, d := range b.groups {
		if d.size > 0 {
			continue
		}
		if _, used := b.resolver.Members(id); !used {
			delete(b.groups, id)
		}
	}
}
