package catalog

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

// ErrServiceChanged says that slices were made of a state of the service that is
// over. The observers were told of the new one.
var ErrServiceChanged = errors.New("the service changed")

// guardKey is the key that each service with a selector has, from when it is
// stored until it is gone. A commit compares only what it writes. So whoever
// adds a slice writes this key as it is, and whoever deletes the service deletes
// it: of the two one must look again. The service's own key would do too, but
// then its revision, which callers give back, would move without their doing.
func guardKey(service Name) string {
	return bucket.Key("selecting", service.Namespace, service.Name)
}

// setGuard makes the guard of a service's next state, nil for none, be there or
// not.
func setGuard(tx *bucket.Tx, name Name, next *servicelbv1.Service) {
	if spec.Selects(next) {
		tx.Put(guardKey(name), []byte(name.String()))
	} else {
		tx.Delete(guardKey(name))
	}
}

// touchGuard lets the commit fail if the guard is taken away meanwhile.
func touchGuard(tx *bucket.Tx, name Name) {
	if _, found := tx.Get(guardKey(name)); found {
		tx.Touch(guardKey(name))
	} else { // the service was stored before there were guards
		tx.Put(guardKey(name), []byte(name.String()))
	}
}

// Manage makes the slices that are kept for a service exactly those that a function
// makes of the ones that are stored, at most MaxManaged. It knows the service's state
// at a revision and pods up to asOf, and is called again when another replica was
// faster. When the service is gone, or selects no pods any more, they
// go instead; when it is another by now, ErrServiceChanged is answered. A stored
// slice that differs and reflects later pods stays: another replica knows more.
// With asOf 0 it does not. It answers whether anything had to be written, and
// the names that somebody else's slices occupy.
func (s *Store) Manage(ctx context.Context, service Name, revision uint64, want func(stored []*servicelbv1.EndpointSlice) []*servicelbv1.EndpointSlice, asOf uint64) (written bool, occupied []Name, err error) {
	_, err = s.commit(ctx, func(tx *bucket.Tx) error {
		stored, _, err := serviceTable().Get(tx, service.Namespace, service.Name)
		if err != nil {
			return err
		}
		m := managing{tx: tx, service: service, asOf: asOf}
		switch {
		case !spec.Selects(stored):
			m.asOf = 0 // whatever pods there are
			err = m.become(nothing, s.index)
		case stored.GetRevision() != revision:
			return ErrServiceChanged
		default:
			err = m.become(want, s.index)
		}
		written, occupied = m.written, m.occupied
		return err
	})
	return written, occupied, err
}

// managing is one attempt of a transaction over a service's managed slices.
type managing struct {
	tx       *bucket.Tx
	service  Name
	asOf     uint64
	written  bool
	occupied []Name
}

// later says whether a slice reflects pods that are not known here.
func (m *managing) later(slice *servicelbv1.EndpointSlice) bool {
	return m.asOf != 0 && slice.GetPodsRevision() > m.asOf
}

// become stages what differs.
func (m *managing) become(want func(stored []*servicelbv1.EndpointSlice) []*servicelbv1.EndpointSlice, index *Index) error {
	stored, err := slicesOf(m.tx, index, m.service)
	if err != nil {
		return err
	}
	stored = slices.DeleteFunc(stored, func(slice *servicelbv1.EndpointSlice) bool { return slice.GetManagedBy() != spec.Manager })
	wanted := map[Name]bool{}
	for _, w := range want(stored) {
		wanted[Name{w.GetNamespace(), w.GetName()}] = true
		if err := m.put(w); err != nil {
			return err
		}
	}
	for _, slice := range stored {
		name := Name{slice.GetNamespace(), slice.GetName()}
		if !wanted[name] && !m.later(slice) {
			m.written = true
			sliceTable().Delete(m.tx, name.Namespace, name.Name)
		}
	}
	return nil
}

// nothing is wanted of a service that selects no pods.
func nothing([]*servicelbv1.EndpointSlice) []*servicelbv1.EndpointSlice { return nil }

func (m *managing) put(w *servicelbv1.EndpointSlice) error {
	name := Name{w.GetNamespace(), w.GetName()}
	stored, found, err := sliceTable().Get(m.tx, name.Namespace, name.Name)
	switch {
	case err != nil:
		return err
	case !found:
		touchGuard(m.tx, m.service)
	case stored.GetManagedBy() != spec.Manager:
		m.occupied = append(m.occupied, name)
		return nil
	case sameSlice(stored, w) || m.later(stored):
		return nil
	}
	m.written = true
	sliceTable().Put(m.tx, w, name.Namespace, name.Name)
	return nil
}

// slicesOf answers the slices of a service as a transaction sees them. The index
// knows all that are committed, but not those that are to be committed together
// with this transaction: managed ones among them are found by their names.
func slicesOf(tx *bucket.Tx, index *Index, service Name) ([]*servicelbv1.EndpointSlice, error) {
	names := map[Name]bool{}
	for _, name := range index.OfService(service) {
		names[name] = true
	}
	for entry := range tx.Scan(sliceTable().Key(service.Namespace, spec.ManagedPrefix(service.Name)), "") {
		if name, ok := NameOfKey(entry.Key, "endpointslice"); ok {
			names[name] = true
		}
	}
	var list []*servicelbv1.EndpointSlice
	for name := range names {
		slice, found, err := sliceTable().Get(tx, name.Namespace, name.Name)
		if err != nil {
			return nil, err
		}
		if found && slice.GetServiceName() == service.Name {
			list = append(list, slice)
		}
	}
	return list, nil
}

// sameSlice says whether two states of a slice differ in nothing but revisions.
func sameSlice(stored, next *servicelbv1.EndpointSlice) bool {
	a := proto.CloneOf(stored)
	a.Revision, a.PodsRevision = next.GetRevision(), next.GetPodsRevision()
	return proto.Equal(a, next)
}
