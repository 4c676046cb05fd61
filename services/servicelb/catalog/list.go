package catalog

import (
	"context"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// maxPageBytes bounds a page, well below the 4 MiB that a gRPC client takes. A
// page has one object at least.
const maxPageBytes = 2 << 20

// Get answers a service as this process knows it, or NotFoundError.
func (s *Store) Get(name Name) (*servicelbv1.Service, error) {
	service, found, err := serviceTable().Get(s.bucket, name.Namespace, name.Name)
	if err == nil && !found {
		return nil, &NotFoundError{Name: name}
	}
	return service, err
}

// Query says which part of a list is asked for.
type Query struct {
	// Namespaces are those that are wanted; empty: all.
	Namespaces []string
	// Service is whose slices are wanted; empty: everybody's. It goes with one
	// namespace.
	Service string
	// After leaves out the object of this key and those before it.
	After string
	// Size is how many objects are answered at most.
	Size int
}

// Page is part of a list, in order of key, that is of namespace and name.
type Page[T proto.Message] struct {
	// Objects are the page's.
	Objects []T
	// Next is what After must be for the next page; empty on the last one.
	Next string
	// Sequence is the store sequence that the page reflects.
	Sequence uint64
}

// Services answers services.
func (s *Store) Services(q Query) (Page[*servicelbv1.Service], error) {
	return list(s.bucket.Snapshot(), serviceTable(), "service", q)
}

// Slices answers slices.
func (s *Store) Slices(q Query) (Page[*servicelbv1.EndpointSlice], error) {
	snapshot := s.bucket.Snapshot()
	if q.Service == "" {
		return list(snapshot, sliceTable(), "endpointslice", q)
	}
	page := Page[*servicelbv1.EndpointSlice]{Sequence: snapshot.Sequence()}
	keys := map[string]Name{}
	for _, name := range s.index.OfService(Name{q.Namespaces[0], q.Service}) {
		keys[sliceTable().Key(name.Namespace, name.Name)] = name
	}
	room := room{objects: q.Size}
	last := ""
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if key <= q.After {
			continue
		}
		// The index may be a change ahead of the snapshot: what is not here yet
		// belongs to a later sequence than the page's.
		slice, found, err := sliceTable().Get(snapshot, keys[key].Namespace, keys[key].Name)
		if err != nil {
			return page, err
		}
		if !found || slice.GetServiceName() != q.Service {
			continue
		}
		if !room.take(proto.Size(slice)) {
			page.Next = last
			break
		}
		page.Objects, last = append(page.Objects, slice), key
	}
	return page, nil
}

// list scans keys, of one namespace after the other if some are named.
func list[T proto.Message](snapshot bucket.Snapshot, table bucket.Table[T], kind string, q Query) (Page[T], error) {
	page := Page[T]{Sequence: snapshot.Sequence()}
	prefixes := []string{kind + "."}
	if len(q.Namespaces) > 0 {
		prefixes = nil
		for _, namespace := range slices.Compact(slices.Sorted(slices.Values(q.Namespaces))) {
			prefixes = append(prefixes, bucket.Key(kind, namespace)+".")
		}
		slices.Sort(prefixes) // keys sort as these do
	}
	room := room{objects: q.Size}
	last := ""
	for _, prefix := range prefixes {
		if prefix < q.After && !strings.HasPrefix(q.After, prefix) {
			continue // was on an earlier page
		}
		for entry := range snapshot.Scan(prefix, q.After) {
			if !room.take(len(entry.Value)) {
				page.Next = last
				return page, nil
			}
			name, ok := NameOfKey(entry.Key, kind)
			if !ok {
				continue
			}
			object, _, err := table.Get(snapshot, name.Namespace, name.Name)
			if err != nil {
				return page, err
			}
			page.Objects, last = append(page.Objects, object), entry.Key
		}
	}
	return page, nil
}

// room is what is left of a page.
type room struct{ objects, used, bytes int }

// take says whether an object of so many bytes still fits.
func (r *room) take(size int) bool {
	if r.used == r.objects || r.used > 0 && r.bytes+size > maxPageBytes {
		return false
	}
	r.used++
	r.bytes += size
	return true
}

// ServicesWithSlices answers the services that have slices. They need not
// exist.
func (s *Store) ServicesWithSlices() []Name { return s.index.Services() }

// Reach returns when what this process knows reflects a revision that its
// observers were told of: they are told first.
func (s *Store) Reach(ctx context.Context, revision uint64) error {
	return s.bucket.Wait(ctx, revision)
}

// Service answers a service as this replica knows it, nil if there is none.
func (s *Store) Service(name Name) (*servicelbv1.Service, error) {
	service, _, err := serviceTable().Get(s.bucket, name.Namespace, name.Name)
	return service, err
}

// Slice answers a slice as this replica knows it, nil if there is none.
func (s *Store) Slice(name Name) (*servicelbv1.EndpointSlice, error) {
	slice, _, err := sliceTable().Get(s.bucket, name.Namespace, name.Name)
	return slice, err
}

// Pooled says whether a load-balancer address is one that is handed out, and whether any is.
func (s *Store) Pooled(ip string) (is, any bool) {
	size, _ := s.numbers.state(loadBalancerIPs)
	number, ok := loadBalancerIPs.parse(ip)
	return ok && s.numbers.contains(loadBalancerIPs, number), size > 0
}
