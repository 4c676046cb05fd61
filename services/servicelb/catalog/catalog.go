// Package catalog keeps services and their slices, and hands out their
// addresses and ports.
//
// It owns all keys of the bucket: service.<namespace>.<name>,
// endpointslice.<namespace>.<name>, needpods.<namespace>.<name>, one key for
// each address and port that a service has: clusterip.<ip>, nodeport.<n>,
// loadbalancerip.<ip>, and selecting.<namespace>.<name> for each service with a
// selector. It promises that a service and the keys of what it has always change
// in one atomic commit: nothing has two owners, and what a service had is free in
// the same instant in which the service is gone, also when the process is killed
// at any point. Any number of processes may write; each decision is made anew when
// somebody else was faster. It must not know who asks, nor what nodes make of a
// service.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

// patience bounds the wait for the store. Callers wait longer than this, and
// have the time to try another replica.
const patience = 2 * time.Second

// Name names a service, or a slice.
type Name struct {
	Namespace, Name string
}

// String is "namespace/name".
func (n Name) String() string { return n.Namespace + "/" + n.Name }

func nameOf(s *servicelbv1.Service) Name { return Name{s.GetNamespace(), s.GetName()} }

// serviceTable is the stored services.
func serviceTable() bucket.Table[*servicelbv1.Service] {
	return bucket.NewTable[*servicelbv1.Service]("service")
}

// Store decides about services and slices. It is safe for concurrent use.
type Store struct {
	bucket  *bucket.Bucket
	numbers *Numbers
	index   *Index
}

// New returns the store of a bucket of whose changes numbers and index are told.
func New(b *bucket.Bucket, numbers *Numbers, index *Index) *Store {
	return &Store{bucket: b, numbers: numbers, index: index}
}

// Create stores a service that has its defaults and is valid by itself, and
// hands out what it needs. One that is there and is as asked is answered. It
// fails with ExistsError, InvalidError, TakenError, ExhaustedError and
// ErrNoNetwork.
func (s *Store) Create(ctx context.Context, wish *servicelbv1.Service) (*servicelbv1.Service, error) {
	return s.change(ctx, nameOf(wish), func(l ledger, stored *servicelbv1.Service) (*servicelbv1.Service, error) {
		if stored != nil {
			if same(stored, spec.Adopt(stored, wish)) {
				return stored, nil
			}
			return nil, &ExistsError{Name: nameOf(wish)}
		}
		next := proto.CloneOf(wish)
		return next, l.settle(nil, next)
	})
}

// Update replaces a service by one that has its defaults. A revision other than
// 0 must be the stored one. It fails with NotFoundError, StaleError and as
// Create.
func (s *Store) Update(ctx context.Context, wish *servicelbv1.Service, revision uint64) (*servicelbv1.Service, error) {
	return s.change(ctx, nameOf(wish), func(l ledger, stored *servicelbv1.Service) (*servicelbv1.Service, error) {
		if stored == nil {
			return nil, &NotFoundError{Name: nameOf(wish)}
		}
		next := spec.Adopt(stored, wish)
		if same(stored, next) {
			return stored, nil
		}
		if revision != 0 && revision != stored.GetRevision() {
			return nil, &StaleError{What: "service " + nameOf(wish).String(), Given: revision, Stored: stored.GetRevision()}
		}
		var v rpcerr.Violations
		spec.CheckService(next, &v)
		spec.CheckChange(stored, next, &v)
		if !v.Empty() {
			return nil, &InvalidError{Violations: v}
		}
		return next, l.settle(stored, next)
	})
}

// Delete removes a service with its slices, and frees what it had. One that is
// not there is a success; slices under its name go in any case.
func (s *Store) Delete(ctx context.Context, name Name) error {
	_, err := s.change(ctx, name, func(l ledger, stored *servicelbv1.Service) (*servicelbv1.Service, error) {
		slices, err := slicesOf(l.tx, s.index, name)
		if err != nil {
			return nil, err
		}
		for _, slice := range slices {
			sliceTable().Delete(l.tx, slice.GetNamespace(), slice.GetName())
		}
		setGuard(l.tx, name, nil)
		needTable().Delete(l.tx, name.Namespace, name.Name)
		if stored == nil {
			return nil, nil
		}
		had := map[claim]bool{}
		for _, c := range claimsOf(stored) {
			had[c.claim] = true
		}
		l.free(name, had)
		serviceTable().Delete(l.tx, name.Namespace, name.Name)
		return nil, nil
	})
	return err
}

// same says whether two states of a service differ in nothing but the revision.
func same(stored, next *servicelbv1.Service) bool {
	a := proto.CloneOf(stored)
	a.Revision = next.GetRevision()
	return proto.Equal(a, next)
}

// change commits what decide stages, and answers the service that it answered,
// with its revision. It begins from all that was committed before the call, by
// any replica: "not found" and "gone already" are answers that no comparison of
// revisions would catch.
func (s *Store) change(ctx context.Context, name Name, decide func(l ledger, stored *servicelbv1.Service) (*servicelbv1.Service, error)) (*servicelbv1.Service, error) {
	if err := s.CatchUp(ctx); err != nil {
		return nil, err
	}
	var decided *servicelbv1.Service
	sequence, err := s.commit(ctx, func(tx *bucket.Tx) error {
		stored, found, err := serviceTable().Get(tx, name.Namespace, name.Name)
		if err != nil {
			return err
		}
		if !found {
			stored = nil
		}
		decided, err = decide(ledger{tx: tx, numbers: s.numbers}, stored)
		return err
	})
	if err != nil {
		return nil, err
	}
	if decided != nil && decided.GetRevision() == 0 {
		decided.Revision = s.bucket.RevisionSince(serviceTable().Key(name.Namespace, name.Name), sequence)
	}
	return decided, nil
}

// commit runs a transaction, and again while it is behind.
func (s *Store) commit(ctx context.Context, fn func(tx *bucket.Tx) error) (uint64, error) {
	for {
		sequence, err := s.bucket.Update(ctx, fn)
		if err == nil || !errors.Is(err, errBehind) || ctx.Err() != nil {
			return sequence, err
		}
	}
}

// CatchUp returns when the view has all that was committed before the call, by
// any replica, or answers ErrStoreAway.
func (s *Store) CatchUp(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.bucket.Refresh(bounded); err != nil {
		return fmt.Errorf("%w: %w", ErrStoreAway, err)
	}
	return nil
}

// CatchUpIfPossible is CatchUp while the store answers; otherwise what is known
// must do, if anything ever was. Followers need no more than that: they learn of
// the rest from the bus.
func (s *Store) CatchUpIfPossible(ctx context.Context, follower bool) error {
	if !follower && s.CatchUp(ctx) == nil {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.bucket.Ready(bounded); err != nil {
		return fmt.Errorf("%w: %w", ErrStoreAway, err)
	}
	return nil
}
