package catalog

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

const (
	// maxSlices is how many slices a service may have for somebody to put another
	// one: they are deleted with it in one commit, of bucket.MaxWrites keys.
	maxSlices = 500
	// MaxManaged is how many slices Manage may be given, for the same reason:
	// maxSlices others may be there already, and some 200 addresses and ports.
	MaxManaged = 250
)

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
