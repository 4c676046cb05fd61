package catalog

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

// maxSlices is how many slices a service may have: they are deleted with it in
// one commit.
const maxSlices = 500

// sliceTable is the stored slices.
func sliceTable() bucket.Table[*servicelbv1.EndpointSlice] {
	return bucket.NewTable[*servicelbv1.EndpointSlice]("endpointslice")
}

// PutSlice stores a slice that has its defaults and is valid by itself. A
// revision other than 0 must be the stored one. It fails with StaleError,
// InvalidError and TooManySlicesError.
func (s *Store) PutSlice(ctx context.Context, wish *servicelbv1.EndpointSlice, revision uint64) (*servicelbv1.EndpointSlice, error) {
	if err := s.CatchUp(ctx); err != nil {
		return nil, err
	}
	name, owner := Name{wish.GetNamespace(), wish.GetName()}, Name{wish.GetNamespace(), wish.GetServiceName()}
	var decided *servicelbv1.EndpointSlice
	sequence, err := s.commit(ctx, func(tx *bucket.Tx) error {
		stored, found, err := sliceTable().Get(tx, name.Namespace, name.Name)
		if err != nil {
			return err
		}
		decided = proto.CloneOf(wish)
		if !found {
			if revision != 0 {
				return &StaleError{What: "EndpointSlice " + name.String(), Given: revision}
			}
			if len(s.index.OfService(owner)) >= maxSlices {
				return &TooManySlicesError{Name: owner, Limit: maxSlices}
			}
			sliceTable().Put(tx, decided, name.Namespace, name.Name)
			return nil
		}
		decided.Revision = stored.GetRevision()
		if proto.Equal(stored, decided) {
			return nil
		}
		decided.Revision = 0
		if revision != 0 && revision != stored.GetRevision() {
			return &StaleError{What: "EndpointSlice " + name.String(), Given: revision, Stored: stored.GetRevision()}
		}
		if err := checkSliceChange(stored, wish); err != nil {
			return err
		}
		sliceTable().Put(tx, decided, name.Namespace, name.Name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if decided.GetRevision() == 0 {
		decided.Revision = s.bucket.RevisionSince(sliceTable().Key(name.Namespace, name.Name), sequence)
	}
	return decided, nil
}

func checkSliceChange(stored, next *servicelbv1.EndpointSlice) error {
	var v rpcerr.Violations
	spec.CheckSliceChange(stored, next, &v)
	if stored.GetManagedBy() == spec.Manager {
		v.Addf("endpoint_slice.name", "%q is kept by servicelb itself: it follows the service's selector", stored.GetName())
	}
	if v.Empty() {
		return nil
	}
	return &InvalidError{Violations: v}
}

// DeleteSlice removes a slice. One that is not there is a success. It fails
// with InvalidError for a slice that the service keeps itself.
func (s *Store) DeleteSlice(ctx context.Context, name Name) error {
	if err := s.CatchUp(ctx); err != nil {
		return err
	}
	_, err := s.commit(ctx, func(tx *bucket.Tx) error {
		stored, found, err := sliceTable().Get(tx, name.Namespace, name.Name)
		if err != nil || !found {
			return err
		}
		if stored.GetManagedBy() == spec.Manager {
			e := &InvalidError{}
			e.Violations.Addf("name", "%q is kept by servicelb itself: it follows the service's selector", name.Name)
			return e
		}
		sliceTable().Delete(tx, name.Namespace, name.Name)
		return nil
	})
	return err
}

// Manage makes the slices that the service keeps itself for one of its services
// exactly the given ones, which reflect pods up to asOf. A stored slice that
// differs and reflects later pods stays: another replica knows more. With asOf 0
// it does not. It answers whether anything had to be written, and the names that
// somebody else's slices occupy.
func (s *Store) Manage(ctx context.Context, owner Name, want []*servicelbv1.EndpointSlice, asOf uint64) (written bool, occupied []Name, err error) {
	later := func(stored *servicelbv1.EndpointSlice) bool { return asOf != 0 && stored.GetPodsRevision() > asOf }
	candidates := s.index.OfService(owner)
	_, err = s.commit(ctx, func(tx *bucket.Tx) error {
		written, occupied = false, nil
		wanted := map[Name]bool{}
		for _, w := range want {
			name := Name{w.GetNamespace(), w.GetName()}
			wanted[name] = true
			stored, found, err := sliceTable().Get(tx, name.Namespace, name.Name)
			if err != nil {
				return err
			}
			if found && stored.GetManagedBy() != spec.Manager {
				occupied = append(occupied, name)
				continue
			}
			if found && (sameSlice(stored, w) || later(stored)) {
				continue
			}
			written = true
			sliceTable().Put(tx, w, name.Namespace, name.Name)
		}
		for _, name := range candidates {
			stored, found, err := sliceTable().Get(tx, name.Namespace, name.Name)
			if err != nil {
				return err
			}
			mine := found && stored.GetManagedBy() == spec.Manager && stored.GetServiceName() == owner.Name
			if mine && !wanted[name] && !later(stored) {
				written = true
				sliceTable().Delete(tx, name.Namespace, name.Name)
			}
		}
		return nil
	})
	return written, occupied, err
}

// sameSlice says whether two states of a slice differ in nothing but revisions.
func sameSlice(stored, next *servicelbv1.EndpointSlice) bool {
	a := proto.CloneOf(stored)
	a.Revision, a.PodsRevision = next.GetRevision(), next.GetPodsRevision()
	return proto.Equal(a, next)
}
