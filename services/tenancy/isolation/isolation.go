// Package isolation keeps the one setting of the cluster's tenancy: whether
// VNIDs separate tenants, and whether policies are enforced.
//
// It owns the key isolation.cluster. It promises that a cluster in which the
// mode was never set is multitenant. It must not know what nodes make of it.
package isolation

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/catchup"
)

// Name is the name of the one object.
const Name = "cluster"

// unset is the mode until somebody sets one.
const unset = tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT

// key is where the object is.
func key() string { return bucket.Key("isolation", Name) }

// reader is what both a bucket and a transaction offer.
type reader interface {
	Get(key string) (bucket.Entry, bool)
}

// Read answers the mode in force, with the revision of its last change; 0
// while it was never set.
func Read(from reader) (*tenancyv1.Isolation, error) {
	entry, found := from.Get(key())
	if !found {
		return &tenancyv1.Isolation{Mode: unset}, nil
	}
	stored := &tenancyv1.Isolation{}
	if err := proto.Unmarshal(entry.Value, stored); err != nil {
		return nil, fmt.Errorf("read isolation mode: %w", err)
	}
	stored.Revision = entry.Revision
	return stored, nil
}

// names are the modes as configurations and the CLI write them.
var names = map[string]tenancyv1.IsolationMode{
	"subnet":        tenancyv1.IsolationMode_ISOLATION_MODE_SUBNET,
	"multitenant":   tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT,
	"networkpolicy": tenancyv1.IsolationMode_ISOLATION_MODE_NETWORKPOLICY,
	"combined":      tenancyv1.IsolationMode_ISOLATION_MODE_COMBINED,
}

// Named answers the mode of a name.
func Named(name string) (mode tenancyv1.IsolationMode, known bool) {
	mode, known = names[name]
	return mode, known
}

// Set makes a mode that is known the mode in force, and answers what is stored
// then. Setting the mode that is set already changes nothing.
func Set(ctx context.Context, b *bucket.Bucket, mode tenancyv1.IsolationMode) (*tenancyv1.Isolation, error) {
	return set(ctx, b, mode, func(stored *tenancyv1.Isolation) bool { return stored.GetMode() == mode && stored.GetRevision() != 0 })
}

// Begin is Set where nobody ever set a mode; where somebody did, that stays.
func Begin(ctx context.Context, b *bucket.Bucket, mode tenancyv1.IsolationMode) (*tenancyv1.Isolation, error) {
	return set(ctx, b, mode, func(stored *tenancyv1.Isolation) bool { return stored.GetRevision() != 0 })
}

// set writes a mode unless what is stored is to stay.
func set(ctx context.Context, b *bucket.Bucket, mode tenancyv1.IsolationMode, stays func(*tenancyv1.Isolation) bool) (*tenancyv1.Isolation, error) {
	if err := catchup.Fully(ctx, b); err != nil {
		return nil, fmt.Errorf("set isolation mode: %w", err)
	}
	var decided *tenancyv1.Isolation
	sequence, err := b.Update(ctx, func(tx *bucket.Tx) error {
		stored, err := Read(tx)
		if err != nil {
			return err
		}
		decided = stored
		if stays(stored) {
			return nil
		}
		decided = &tenancyv1.Isolation{Mode: mode}
		value, err := proto.Marshal(decided)
		if err != nil {
			return fmt.Errorf("write isolation mode: %w", err)
		}
		tx.Put(key(), value)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("set isolation mode: %w", err)
	}
	if decided.GetRevision() == 0 {
		decided.Revision = b.RevisionSince(key(), sequence)
	}
	return decided, nil
}

// EnforcesPolicies reports whether policies decide in a mode.
func EnforcesPolicies(mode tenancyv1.IsolationMode) bool {
	return mode == tenancyv1.IsolationMode_ISOLATION_MODE_NETWORKPOLICY || mode == tenancyv1.IsolationMode_ISOLATION_MODE_COMBINED
}
