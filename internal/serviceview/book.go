package serviceview

import (
	"sync"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// Name names a service.
type Name struct {
	Namespace, Service string
}

// Book keeps services with their slices, and says which service a change
// concerns, so that the cost of a change is that of its service. Feed it with
// what two followers tell; it is safe for concurrent use. Objects that it is
// given must not be changed afterwards.
type Book struct {
	mu       sync.Mutex
	services map[Name]*servicelbv1.Service
	slices   map[Name]map[string]*servicelbv1.EndpointSlice // by service, then by the slice's name
	ownerOf  map[Name]Name                                  // by the slice's namespace and name
}

// NewBook returns an empty book.
func NewBook() *Book {
	return &Book{
		services: make(map[Name]*servicelbv1.Service),
		slices:   make(map[Name]map[string]*servicelbv1.EndpointSlice),
		ownerOf:  make(map[Name]Name),
	}
}

// SetService takes over a service's new state, and answers its name.
func (b *Book) SetService(s *servicelbv1.Service) Name {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := Name{s.GetNamespace(), s.GetName()}
	b.services[name] = s
	return name
}

// DeleteService forgets a service. Its slices stay until they are deleted too.
func (b *Book) DeleteService(name Name) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.services, name)
}

// SetSlice takes over a slice's new state, and answers the services that it
// concerns: its own, and a former one if the slice was deleted and came back
// under another.
func (b *Book) SetSlice(s *servicelbv1.EndpointSlice) []Name {
	b.mu.Lock()
	defer b.mu.Unlock()
	slice := Name{s.GetNamespace(), s.GetName()}
	owner := Name{s.GetNamespace(), s.GetServiceName()}
	concerned := []Name{owner}
	if former, known := b.ownerOf[slice]; known && former != owner {
		b.drop(slice, former)
		concerned = append(concerned, former)
	}
	b.ownerOf[slice] = owner
	if b.slices[owner] == nil {
		b.slices[owner] = make(map[string]*servicelbv1.EndpointSlice)
	}
	b.slices[owner][s.GetName()] = s
	return concerned
}

// DeleteSlice forgets a slice of a namespace by its name, and answers the
// service that it concerned, if it was known.
func (b *Book) DeleteSlice(namespace, name string) (Name, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	slice := Name{namespace, name}
	owner, known := b.ownerOf[slice]
	if known {
		b.drop(slice, owner)
	}
	return owner, known
}

func (b *Book) drop(slice, owner Name) {
	delete(b.ownerOf, slice)
	if delete(b.slices[owner], slice.Service); len(b.slices[owner]) == 0 {
		delete(b.slices, owner)
	}
}

// View computes a service as a node sees it; false if there is no such
// service.
func (b *Book) View(name Name, node Node) (View, bool, error) {
	b.mu.Lock()
	service := b.services[name]
	slices := make([]*servicelbv1.EndpointSlice, 0, len(b.slices[name]))
	for _, s := range b.slices[name] {
		slices = append(slices, s)
	}
	b.mu.Unlock()
	if service == nil {
		return View{}, false, nil
	}
	v, err := Compute(service, slices, node)
	return v, true, err
}

// Names answers the names of all services, in no order.
func (b *Book) Names() []Name {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]Name, 0, len(b.services))
	for name := range b.services {
		names = append(names, name)
	}
	return names
}
