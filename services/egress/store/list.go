package store

import (
	"cmp"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// maxPageBytes bounds a page, well below the 4 MiB that a gRPC client takes. A
// page has one object at least.
const maxPageBytes = 2 << 20

// Query says which part of a list is asked for.
type Query struct {
	// Names are the first names that are wanted; empty: all.
	Names []string
	// After leaves out the object of this key and those before it.
	After string
	// Size is how many objects are answered at most.
	Size int
}

// Page is part of a list, in order of key.
type Page[T proto.Message] struct {
	// Objects are the page's.
	Objects []T
	// Next is what After must be for the next page; empty on the last one.
	Next string
	// Sequence is the store sequence that the page reflects.
	Sequence uint64
	// Decided is the store sequence up to which the page shows decisions.
	Decided uint64
}

// NetNamespaces answers what namespaces want.
func (s *Store) NetNamespaces(q Query) (Page[*egressv1.NetNamespaceEgress], error) {
	return list(s, NetNamespaces(), KindNetNamespace, q)
}

// HostSubnets answers what nodes may host.
func (s *Store) HostSubnets(q Query) (Page[*egressv1.HostSubnetEgress], error) {
	return list(s, HostSubnets(), KindHostSubnet, q)
}

// Nodes answers where nodes are and how they do.
func (s *Store) Nodes(q Query) (Page[*egressv1.EgressNode], error) {
	return list(s, Nodes(), KindNode, q)
}

// Assignments answers what namespaces get.
func (s *Store) Assignments(q Query) (Page[*egressv1.EgressAssignment], error) {
	return list(s, Assignments(), KindAssignment, q)
}

// Pods answers the addresses of pods by assignment.
func (s *Store) Pods(q Query) (Page[*egressv1.EgressPods], error) {
	return list(s, Pods(), KindPods, q)
}

// Hostings answers what nodes have to hold.
func (s *Store) Hostings(q Query) (Page[*egressv1.EgressHosting], error) {
	return list(s, Hostings(), KindHosting, q)
}

// span is a part of the keys: one key, or those with a prefix.
type span struct{ prefix, key string }

// list scans keys, of one first name after the other if some are named.
func list[T proto.Message](s *Store, table bucket.Table[T], kind string, q Query) (Page[T], error) {
	snapshot := s.bucket.Snapshot()
	page := Page[T]{Sequence: snapshot.Sequence(), Decided: decided(snapshot)}
	bytes, last := 0, ""
	for _, key := range keys(snapshot, kind, q) {
		object, exists, err := table.Get(snapshot, key.names...)
		if err != nil {
			return page, err
		}
		if !exists {
			continue
		}
		size := proto.Size(object)
		if len(page.Objects) == q.Size || len(page.Objects) > 0 && bytes+size > maxPageBytes {
			page.Next = last
			break
		}
		bytes += size
		page.Objects, last = append(page.Objects, object), key.text
	}
	return page, nil
}

// storedKey is a key and the names in it.
type storedKey struct {
	text  string
	names []string
}

// keys answers those of a query in order, one more than a page can have.
func keys(snapshot bucket.Snapshot, kind string, q Query) []storedKey {
	spans := []span{{prefix: kind + "."}}
	if len(q.Names) > 0 {
		spans = nil
		for _, name := range q.Names {
			key := bucket.Key(kind, name)
			spans = append(spans, span{prefix: key + ".", key: key})
		}
		slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.prefix, b.prefix) })
		spans = slices.Compact(spans)
	}
	var found []storedKey
	add := func(text string) {
		if names, ok := NamesOf(text, kind); ok && text > q.After {
			found = append(found, storedKey{text, names})
		}
	}
	for _, sp := range spans {
		if sp.key != "" {
			if _, exists := snapshot.Get(sp.key); exists {
				add(sp.key)
			}
		}
		if sp.prefix < q.After && !strings.HasPrefix(q.After, sp.prefix) {
			continue // was on an earlier page
		}
		for entry := range snapshot.Scan(sp.prefix, q.After) {
			if add(entry.Key); len(found) > q.Size {
				return found
			}
		}
	}
	slices.SortFunc(found, func(a, b storedKey) int { return strings.Compare(a.text, b.text) })
	return found
}
