// Package listing reads pages of a snapshot.
//
// It owns what a page is: objects in order of key, no more than were asked for,
// and no more bytes than a message may have, but one object at least. It must
// not know what the objects mean.
package listing

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
)

// maxBytes bounds a page, well below the 4 MiB that a gRPC client takes. One
// object alone may be larger.
const maxBytes = 2 << 20

// Query says which part of a list is asked for.
type Query struct {
	// Prefixes of keys that are wanted, or Keys themselves. None of either: of
	// everything there is nothing.
	Prefixes, Keys []string
	// After leaves out this key and those before it.
	After string
	// Size is how many objects are answered at most.
	Size int
}

// Page is part of a list.
type Page[T proto.Message] struct {
	Objects []T
	// Next is what After must be for the next page; empty on the last one.
	Next string
	// Sequence is the store sequence that the page reflects.
	Sequence uint64
}

// Read answers a page of objects. decode reads one.
func Read[T proto.Message](s bucket.Snapshot, q Query, decode func(bucket.Entry) (T, error)) (Page[T], error) {
	page := Page[T]{Sequence: s.Sequence()}
	bytes, last := 0, ""
	var failure error
	q.scan(s, func(e bucket.Entry) bool {
		bytes += len(e.Value)
		if len(page.Objects) == q.Size || len(page.Objects) > 0 && bytes > maxBytes {
			page.Next = last
			return false
		}
		object, err := decode(e)
		if err != nil {
			failure = err
			return false
		}
		page.Objects, last = append(page.Objects, object), e.Key
		return true
	})
	return page, failure
}

// scan visits what is asked for in order of key, until visit says no.
func (q Query) scan(s bucket.Snapshot, visit func(bucket.Entry) bool) {
	for _, key := range slices.Compact(slices.Sorted(slices.Values(q.Keys))) {
		if key <= q.After {
			continue
		}
		if e, exists := s.Get(key); exists && !visit(e) {
			return
		}
	}
	for _, prefix := range slices.Compact(slices.Sorted(slices.Values(q.Prefixes))) {
		if prefix < q.After && !strings.HasPrefix(q.After, prefix) {
			continue // was on an earlier page
		}
		for e := range s.Scan(prefix, q.After) {
			if !visit(e) {
				return
			}
		}
	}
}
