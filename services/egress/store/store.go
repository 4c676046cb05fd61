// Package store keeps what operators want of egress IPs and firewalls, and what
// was decided.
//
// It owns all keys of the bucket: netnamespaceegress.<namespace> and
// hostsubnetegress.<node> (what is wanted), egressip.<ip> (whose an address is),
// egressnetworkpolicy.<namespace>.<name>, egressnode.<node> (where a node is and
// how it does), egressassignment.<namespace>.<selection>, egresspods.<same>,
// egresshosting.<node>, dnsname.<name> (what was decided), dnsmember.<wildcard>.<name>
// (what pods looked up), and lease.placement. Package kube has kube.lease, kube.cluster,
// kube.adopted and kube.whose.<kind>.<name> there.
// It promises that a namespace's wish and the keys of its addresses change in
// one commit, so that no address has two owners; and that what is decided is
// committed only while the lease of whoever decided holds. Any number of
// processes may write. It must not decide where an address is hosted.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// patience bounds the wait for the store. Callers wait longer than this, and
// have the time to try another replica.
const patience = 2 * time.Second

// Kinds of keys that others read.
const (
	KindNetNamespace = "netnamespaceegress"
	KindHostSubnet   = "hostsubnetegress"
	KindNode         = "egressnode"
	KindAssignment   = "egressassignment"
	KindPods         = "egresspods"
	KindHosting      = "egresshosting"
)

const kindAddress = "egressip"

// NetNamespaces is what namespaces want.
func NetNamespaces() bucket.Table[*egressv1.NetNamespaceEgress] {
	return bucket.NewTable[*egressv1.NetNamespaceEgress](KindNetNamespace)
}

// HostSubnets is what nodes may host.
func HostSubnets() bucket.Table[*egressv1.HostSubnetEgress] {
	return bucket.NewTable[*egressv1.HostSubnetEgress](KindHostSubnet)
}

// Nodes is where nodes are and how they do.
func Nodes() bucket.Table[*egressv1.EgressNode] {
	return bucket.NewTable[*egressv1.EgressNode](KindNode)
}

// Assignments is what namespaces get.
func Assignments() bucket.Table[*egressv1.EgressAssignment] {
	return bucket.NewTable[*egressv1.EgressAssignment](KindAssignment)
}

// Pods is the addresses of pods by assignment.
func Pods() bucket.Table[*egressv1.EgressPods] {
	return bucket.NewTable[*egressv1.EgressPods](KindPods)
}

// Hostings is what nodes have to hold.
func Hostings() bucket.Table[*egressv1.EgressHosting] {
	return bucket.NewTable[*egressv1.EgressHosting](KindHosting)
}

// Store is safe for concurrent use.
type Store struct{ bucket *bucket.Bucket }

// New returns the store of a bucket.
func New(b *bucket.Bucket) *Store { return &Store{bucket: b} }

// object is a stored message with a revision.
type object interface {
	proto.Message
	GetRevision() uint64
}

// change commits what decide stages, and answers the object that it answered. It
// begins from all that was committed before the call, by any replica.
func change[T object](ctx context.Context, s *Store, key string, decide func(tx *bucket.Tx) (T, error)) (T, error) {
	var decided, none T
	if err := s.CatchUp(ctx); err != nil {
		return none, err
	}
	sequence, err := s.bucket.Update(ctx, func(tx *bucket.Tx) error {
		var err error
		decided, err = decide(tx)
		return err
	})
	if err != nil {
		return none, err
	}
	if decided.GetRevision() != 0 {
		return decided, nil
	}
	if _, exists := s.bucket.Get(key); !exists {
		return decided, nil // what wants nothing is not kept
	}
	message := decided.ProtoReflect()
	field := message.Descriptor().Fields().ByName("revision")
	message.Set(field, protoValue(s.bucket.RevisionSince(key, sequence)))
	return decided, nil
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

// ErrStoreAway is in the chain of errors that are not the caller's fault: the
// store did not answer.
var ErrStoreAway = errors.New("the store does not answer")

// NotFoundError says that there is no such object.
type NotFoundError struct{ What string }

func (e *NotFoundError) Error() string { return "there is no " + e.What }

// StaleError says that an object changed since the caller read it.
type StaleError struct {
	What          string
	Given, Stored uint64
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("%s changed since it was read: revision %d is given, %d is stored", e.What, e.Given, e.Stored)
}

// checkRevision compares a revision that a caller gave with the stored one, 0
// for an object that does not exist.
func checkRevision(what string, given, stored uint64) error {
	if given != 0 && given != stored {
		return &StaleError{What: what, Given: given, Stored: stored}
	}
	return nil
}

// equal compares two states of an object, revisions aside.
func equal[T object](a, b T) bool {
	return proto.Equal(bare(a), bare(b))
}

// bare is the object without its revision.
func bare[T object](o T) T {
	c := proto.CloneOf(o)
	message := c.ProtoReflect()
	message.Clear(message.Descriptor().Fields().ByName("revision"))
	return c
}
