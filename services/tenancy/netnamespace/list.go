package netnamespace

import (
	"slices"
	"strings"

	"github.com/damask-sdn/damask/internal/bucket"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// Get answers a namespace as this process knows it, or NotFoundError.
func (s *Store) Get(name string) (*tenancyv1.NetNamespace, error) {
	entry, found := s.bucket.Get(namespaceKey(name))
	if !found {
		return nil, &NotFoundError{Name: name}
	}
	return decode(entry)
}

// Listing is a page of namespaces.
type Listing struct {
	// Namespaces are in order of name.
	Namespaces []*tenancyv1.NetNamespace
	// More says that others follow the last one.
	More bool
	// Sequence is the store sequence that the page reflects.
	Sequence uint64
}

// List answers up to size namespaces whose names come after the given one. A
// name has the characters that a key may have, so keys are in order of name.
func (s *Store) List(after string, size int) (Listing, error) {
	snapshot := s.bucket.Snapshot()
	page := Listing{Sequence: snapshot.Sequence()}
	start := ""
	if after != "" {
		start = namespaceKey(after)
	}
	for entry := range snapshot.Scan(kind+".", start) {
		if len(page.Namespaces) == size {
			page.More = true
			break
		}
		if err := page.add(entry); err != nil {
			return Listing{}, err
		}
	}
	return page, nil
}

// ListNamed is List of those that exist among some names.
func (s *Store) ListNamed(names []string, after string, size int) (Listing, error) {
	snapshot := s.bucket.Snapshot()
	page := Listing{Sequence: snapshot.Sequence()}
	wanted := slices.Compact(slices.Sorted(slices.Values(names)))
	for _, name := range wanted {
		if strings.Compare(name, after) <= 0 {
			continue
		}
		entry, found := snapshot.Get(namespaceKey(name))
		if !found {
			continue
		}
		if len(page.Namespaces) == size {
			page.More = true
			break
		}
		if err := page.add(entry); err != nil {
			return Listing{}, err
		}
	}
	return page, nil
}

func (l *Listing) add(entry bucket.Entry) error {
	ns, err := decode(entry)
	if err != nil {
		return err
	}
	l.Namespaces = append(l.Namespaces, ns)
	return nil
}

// VNIDOf answers the VNID of a namespace as this process knows it, and whether
// it has one.
func (s *Store) VNIDOf(name string) (uint32, bool) {
	entry, found := s.bucket.Get(namespaceKey(name))
	if !found {
		return 0, false
	}
	ns, err := decode(entry)
	return ns.GetNetid(), err == nil
}
