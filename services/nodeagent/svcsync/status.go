package svcsync

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
)

// Kinds of objects, as NodeService names them.
const (
	KindService       = "service"
	KindEndpointSlice = "endpointslice"
)

// Status is how far the node is with one object.
type Status struct {
	// Kind is KindService or KindEndpointSlice.
	Kind string
	// Name is NAMESPACE/NAME.
	Name string
	// Wanted is the revision that should be in force.
	Wanted uint64
	// Programmed is the revision that is in force, in the engine and in the switch.
	Programmed uint64
	// Err is why they differ, or what the object has less than it wants; nil: nothing.
	Err error
}

// object names what has a status.
type object struct{ kind, name string }

// errUnknown is the error of waiting for an object that the node has not heard of.
var errUnknown = errors.New("not heard of yet")

// statuses remember the status of each object.
type statuses struct {
	mu      sync.Mutex
	objects map[object]*Status
	seen    map[string]uint64 // by kind, the newest revision that was taken over
	changed chan struct{}     // closed and replaced when something changed
}

func newStatuses() *statuses {
	return &statuses{objects: map[object]*Status{}, seen: map[string]uint64{}, changed: make(chan struct{})}
}

// want notes the revision that is to come into force.
func (s *statuses) want(o object, revision uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects[o] == nil {
		s.objects[o] = &Status{Kind: o.kind, Name: o.name}
	}
	s.objects[o].Wanted = revision
}

// saw notes that everything of a kind up to a revision has been taken over.
func (s *statuses) saw(kind string, revision uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[kind] = max(s.seen[kind], revision)
	s.announce()
}

// settle notes how far objects have come: in force at a revision, or not because of an
// error. Objects that are gone have their deletion in force, and are forgotten.
func (s *statuses) settle(objects map[object]progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for o, p := range objects {
		status := s.objects[o]
		switch {
		case status == nil:
		case p.err != nil:
			status.Err = p.err
		case p.gone:
			delete(s.objects, o)
		default:
			status.Err, status.Programmed = nil, p.revision
		}
	}
	s.announce()
}

// announce wakes who waits. The lock is held.
func (s *statuses) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// progress is how far one object has come.
type progress struct {
	revision uint64
	gone     bool
	err      error
}

// all answers every status, by kind and name.
func (s *statuses) all() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Status, 0, len(s.objects))
	for _, status := range s.objects {
		list = append(list, *status)
	}
	slices.SortFunc(list, func(a, b Status) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return list
}

// wait answers when an object is in force at the revision or a later one, or when a
// later change of its kind has been taken over and there is no such object; then
// followed is false. When ctx ends first, the error is the object's, or that of ctx.
func (s *statuses) wait(ctx context.Context, o object, revision uint64) (followed bool, programmed uint64, err error) {
	for {
		s.mu.Lock()
		status, there := Status{Err: errUnknown}, s.objects[o] != nil
		if there {
			status = *s.objects[o]
		}
		seen, changed := s.seen[o.kind], s.changed
		s.mu.Unlock()
		switch {
		case there && status.Programmed >= revision:
			return true, status.Programmed, nil
		case !there && seen >= revision:
			return false, 0, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return true, status.Programmed, cmp.Or(status.Err, ctx.Err())
		}
	}
}
