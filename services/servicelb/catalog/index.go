package catalog

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/token"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// Index follows which slices a service has, so that nothing reads all slices of
// a namespace. It learns of every change before the bucket's view shows it. It
// is safe for concurrent use.
type Index struct {
	mu      sync.Mutex
	ownerOf map[Name]Name
	held    map[Name]map[Name]bool
}

// NewIndex returns an empty index.
func NewIndex() *Index {
	x := &Index{}
	x.reset()
	return x
}

func (x *Index) reset() {
	x.ownerOf, x.held = map[Name]Name{}, map[Name]map[Name]bool{}
}

// Observe takes over changes of the bucket; after a reset they are all there is.
func (x *Index) Observe(changes []bucket.Change, reset bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if reset {
		x.reset()
	}
	for _, c := range changes {
		name, ok := NameOfKey(c.Key, "endpointslice")
		if !ok {
			continue
		}
		x.remove(name)
		if c.Deleted {
			continue
		}
		slice := &servicelbv1.EndpointSlice{}
		// A value that cannot be read has no service, and shows in every list as
		// an error there.
		_ = proto.Unmarshal(c.Value, slice)
		owner := Name{name.Namespace, slice.GetServiceName()}
		x.ownerOf[name] = owner
		if x.held[owner] == nil {
			x.held[owner] = map[Name]bool{}
		}
		x.held[owner][name] = true
	}
}

func (x *Index) remove(name Name) {
	owner, found := x.ownerOf[name]
	if !found {
		return
	}
	delete(x.ownerOf, name)
	if delete(x.held[owner], name); len(x.held[owner]) == 0 {
		delete(x.held, owner)
	}
}

// OfService answers the slices of a service, in order.
func (x *Index) OfService(service Name) []Name {
	x.mu.Lock()
	defer x.mu.Unlock()
	names := make([]Name, 0, len(x.held[service]))
	for name := range x.held[service] {
		names = append(names, name)
	}
	sortByName(names)
	return names
}

// Services answers the services that have slices, in order. They need not
// exist.
func (x *Index) Services() []Name {
	x.mu.Lock()
	defer x.mu.Unlock()
	names := make([]Name, 0, len(x.held))
	for name := range x.held {
		names = append(names, name)
	}
	sortByName(names)
	return names
}

// Count is how many slices there are.
func (x *Index) Count() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.ownerOf)
}

func sortByName(names []Name) {
	slices.SortFunc(names, func(a, b Name) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
}

// NameOfKey answers the name in a key of a kind, if it is one.
func NameOfKey(key, kind string) (Name, bool) {
	rest, ok := strings.CutPrefix(key, kind+".")
	if !ok {
		return Name{}, false
	}
	first, second, ok := strings.Cut(rest, ".")
	if !ok {
		return Name{}, false
	}
	namespace, errNamespace := token.Decode(first)
	name, errName := token.Decode(second)
	return Name{namespace, name}, errNamespace == nil && errName == nil
}
