// Package policystore keeps policies as they were written.
//
// It owns the keys networkpolicy.<kind>[.<namespace>].<name>. It promises that
// what it stores can be read by this version of package policyspec, and that a
// manifest that is stored already changes nothing. It must not know what
// policies come down to (package resolution does).
package policystore

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/catchup"
	"github.com/damask-sdn/damask/services/tenancy/listing"
	"github.com/damask-sdn/damask/services/tenancy/policyspec"
)

// Kind is the kind of the keys.
const Kind = "networkpolicy"

// Table is the stored policies. Their names are those of Names.
func Table() bucket.Table[*tenancyv1.NetworkPolicy] {
	return bucket.NewTable[*tenancyv1.NetworkPolicy](Kind)
}

// Names answers the names that a policy's key has.
func Names(k policy.Key) []string {
	if k.Namespace == "" {
		return []string{k.Kind, k.Name}
	}
	return []string{k.Kind, k.Namespace, k.Name}
}

// InvalidError says what is wrong with a manifest.
type InvalidError struct{ Violations []policyspec.Violation }

func (e *InvalidError) Error() string {
	sentences := make([]string, len(e.Violations))
	for i, v := range e.Violations {
		sentences[i] = v.String()
	}
	return strings.Join(sentences, "; ")
}

// NotFoundError says that there is no such policy.
type NotFoundError struct{ Key policy.Key }

func (e *NotFoundError) Error() string { return fmt.Sprintf("there is no %s", e.Key) }

// Store keeps policies. It is safe for concurrent use.
type Store struct{ bucket *bucket.Bucket }

// New returns the store of a bucket.
func New(b *bucket.Bucket) *Store { return &Store{bucket: b} }

// Apply stores a manifest in the place of the policy of the same key. It fails
// with InvalidError.
func (s *Store) Apply(ctx context.Context, manifest string) (*tenancyv1.NetworkPolicy, error) {
	p, violations := policyspec.Parse([]byte(manifest))
	if violations != nil {
		return nil, &InvalidError{Violations: violations}
	}
	names := Names(p.Key)
	if err := bucket.CheckKey(Table().Key(names...)); err != nil {
		return nil, &InvalidError{Violations: []policyspec.Violation{{Field: "metadata.name", Message: err.Error()}}}
	}
	if err := catchup.Fully(ctx, s.bucket); err != nil {
		return nil, fmt.Errorf("apply %s: %w", p.Key, err)
	}
	var decided *tenancyv1.NetworkPolicy
	sequence, err := s.bucket.Update(ctx, func(tx *bucket.Tx) error {
		stored, exists, err := Table().Get(tx, names...)
		if err != nil {
			return err
		}
		if decided = stored; exists && stored.GetManifest() == manifest {
			return nil
		}
		decided = &tenancyv1.NetworkPolicy{Key: policywire.Key(p.Key), Manifest: manifest}
		Table().Put(tx, decided, names...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("apply %s: %w", p.Key, err)
	}
	if decided.GetRevision() == 0 {
		decided.Revision = s.bucket.RevisionSince(Table().Key(names...), sequence)
	}
	return decided, nil
}

// Delete removes a policy, and answers the store sequence since which it is
// gone, or a later one.
func (s *Store) Delete(ctx context.Context, k policy.Key) (uint64, error) {
	if err := catchup.Fully(ctx, s.bucket); err != nil {
		return 0, fmt.Errorf("delete %s: %w", k, err)
	}
	sequence, err := s.bucket.Update(ctx, func(tx *bucket.Tx) error {
		Table().Delete(tx, Names(k)...)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("delete %s: %w", k, err)
	}
	return sequence, nil
}

// Get answers a policy as this process knows it, or NotFoundError.
func (s *Store) Get(k policy.Key) (*tenancyv1.NetworkPolicy, error) {
	p, exists, err := Table().Get(s.bucket, Names(k)...)
	if err == nil && !exists {
		return nil, &NotFoundError{Key: k}
	}
	return p, err
}

// List answers a page of policies: all of them, or the NetworkPolicies of a
// namespace.
func (s *Store) List(namespace, after string, size int) (listing.Page[*tenancyv1.NetworkPolicy], error) {
	q := listing.Query{Prefixes: []string{Kind + "."}, After: after, Size: size}
	if namespace != "" {
		q.Prefixes = []string{Table().Key(policyspec.KindNetworkPolicy, namespace) + "."}
	}
	return listing.Read(s.bucket.Snapshot(), q, decode)
}

func decode(e bucket.Entry) (*tenancyv1.NetworkPolicy, error) {
	p := &tenancyv1.NetworkPolicy{}
	if err := proto.Unmarshal(e.Value, p); err != nil {
		return nil, fmt.Errorf("decode %s: %w", e.Key, err)
	}
	p.Revision = e.Revision
	return p, nil
}
