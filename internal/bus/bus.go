// Package bus is what the two ends of the change bus agree on: subjects, the
// headers of a change, and the shards of a head note.
//
// A change of the key KIND.TOKEN[.TOKEN]… of a service's bucket appears on
// damask.SERVICE.v1.KIND.TOKEN[.TOKEN]…, put there by the NATS server itself.
// It must not publish or subscribe.
//
// Used by packages bucket and follow.
package bus

import (
	"hash/fnv"
	"strings"
)

// Headers of a change.
const (
	// HeaderSequence is the store sequence of the change.
	HeaderSequence = "Nats-Sequence"
	// HeaderLastSequence is the sequence of the former change of the same key,
	// 0 if the store holds none.
	HeaderLastSequence = "Nats-Last-Sequence"
	// HeaderOperation is set when the key was deleted; its value is DEL, or
	// PURGE when somebody did it by hand.
	HeaderOperation = "KV-Operation"
)

// Head is the token of the head notes' subjects; no kind has this name.
const Head = "head"

// Shards is the number of shards in a head note.
const Shards = 64

// Prefix answers the subject under which a service's changes appear.
func Prefix(service string) string { return "damask." + service + ".v1" }

// HeadSubject answers where the head notes of a kind are published, under the
// service's prefix.
func HeadSubject(prefix, kind string) string { return prefix + "." + Head + "." + kind }

// Shard answers the index of a key in head notes: by its kind and first name,
// so that what a follower asks for by first name is in one shard.
func Shard(key string) int {
	if first := strings.IndexByte(key, '.'); first >= 0 {
		if second := strings.IndexByte(key[first+1:], '.'); second >= 0 {
			key = key[:first+1+second]
		}
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // never fails
	return int(h.Sum64() % Shards)
}
