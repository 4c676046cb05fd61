// Package allocation keeps the address plan and gives each node its subnet.
//
// It owns the service's bucket. It promises, for any number of replicas and
// whatever moment any of them is killed at:
//
//   - No subnet has two owners, and no two owned subnets overlap.
//   - No host IP belongs to two nodes.
//   - A node's HostSubnet and its claims appear and go together, so nothing
//     is ever left over to be collected.
//   - A freed subnet is given out again only when none is left that was never
//     used, and then the one that was freed longest ago comes first.
//
// How: each change is one transaction of the bucket, which commits only if no
// key that it writes was changed by somebody else.
//
//	clusternetwork.default   the plan
//	hostsubnet.NODE          a node's HostSubnet
//	claim.SUBNET             the owner's name; empty: freed at this revision
//	hostip.ADDRESS           the owner's name
//	cursor.default           how far each range was given out, in its order
//
// Every registration and every change of the plan writes the cursor, changed
// or not: by that they exclude one another.
//
// It must not know gRPC. Errors that a caller can do something about are
// Refusals.
package allocation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/damask-sdn/damask/internal/bucket"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam/plan"
)

// refreshTime bounds how long a change waits to hear from the store at all. A
// replica that is cut off says so soon, and its caller asks another one.
const refreshTime = 2 * time.Second

// Store is the service's state. It is safe for concurrent use.
type Store struct {
	bucket      *bucket.Bucket
	networks    bucket.Table[*ipamv1.ClusterNetwork]
	hostSubnets bucket.Table[*ipamv1.HostSubnet]
	metrics     *Metrics
	listing     atomic.Pointer[listing] // the last one made
	held        func(bucket.Reader) error
}

// New answers a store on the service's bucket, which somebody else runs.
// metrics may be nil.
func New(b *bucket.Bucket, metrics *Metrics) *Store {
	s := &Store{
		bucket:      b,
		networks:    bucket.NewTable[*ipamv1.ClusterNetwork]("clusternetwork"),
		hostSubnets: bucket.NewTable[*ipamv1.HostSubnet]("hostsubnet"),
		metrics:     metrics,
	}
	metrics.watch(s)
	return s
}

// HoldWhile has unknown nodes refused while why answers an error, as a transaction sees it:
// what they would get may be another node's that the store does not know yet. It is called
// before the store is used.
func (s *Store) HoldWhile(why func(bucket.Reader) error) { s.held = why }

// ClusterNetwork answers the plan as stored, whether there is one, and the
// store sequence that this reflects.
func (s *Store) ClusterNetwork(ctx context.Context) (network *ipamv1.ClusterNetwork, exists bool, sequence uint64, err error) {
	if err := s.bucket.Ready(ctx); err != nil {
		return nil, false, 0, err
	}
	snapshot := s.bucket.Snapshot()
	network, exists, err = s.networks.Get(snapshot, plan.Name)
	return network, exists, snapshot.Sequence(), err
}

// HostSubnet answers one node's, and whether it has one. That it has none is
// true at some moment of the call, whichever replica is asked: others remove
// what a node left behind when they hear it.
func (s *Store) HostSubnet(ctx context.Context, node string) (hostSubnet *ipamv1.HostSubnet, exists bool, err error) {
	if err := s.bucket.Ready(ctx); err != nil {
		return nil, false, err
	}
	hostSubnet, exists, err = s.hostSubnets.Get(s.bucket, node)
	if exists || err != nil {
		return hostSubnet, exists, err
	}
	if err := s.refresh(ctx); err != nil {
		return nil, false, err
	}
	return s.hostSubnets.Get(s.bucket, node)
}

// HostSubnets answers all in order of name, and the store sequence that they
// reflect. Neither the list nor what is in it may be changed: every caller
// gets the same, until something changes in the store. Thousands of agents
// ask for it when they come back at once.
func (s *Store) HostSubnets(ctx context.Context) ([]*ipamv1.HostSubnet, uint64, error) {
	if err := s.bucket.Ready(ctx); err != nil {
		return nil, 0, err
	}
	snapshot := s.bucket.Snapshot()
	if l := s.listing.Load(); l != nil && l.sequence == snapshot.Sequence() {
		return l.hostSubnets, l.sequence, nil
	}
	list, err := s.hostSubnets.List(snapshot)
	if err != nil {
		return nil, 0, err
	}
	// The bucket's order is that of encoded names: "a.b" after "a0".
	slices.SortFunc(list, func(a, b *ipamv1.HostSubnet) int { return strings.Compare(a.GetName(), b.GetName()) })
	s.listing.Store(&listing{hostSubnets: list, sequence: snapshot.Sequence()})
	return list, snapshot.Sequence(), nil
}

// listing is the answer of HostSubnets at one sequence.
type listing struct {
	hostSubnets []*ipamv1.HostSubnet
	sequence    uint64
}

// planOf reads the plan that a transaction sees.
func (s *Store) planOf(r bucket.Reader) (plan.Plan, bool, error) {
	stored, exists, err := s.networks.Get(r, plan.Name)
	if err != nil || !exists {
		return plan.Plan{}, false, err
	}
	p, err := parseStored(stored)
	return p, true, err
}

// parseStored reads a plan that was checked when it was stored.
func parseStored(stored *ipamv1.ClusterNetwork) (plan.Plan, error) {
	var problems []string
	p := plan.Parse(stored, func(field, format string, args ...any) {
		problems = append(problems, field+": "+fmt.Sprintf(format, args...))
	})
	if problems != nil {
		return plan.Plan{}, fmt.Errorf("stored cluster network is damaged: %s", strings.Join(problems, "; "))
	}
	return p, nil
}

// update runs a transaction on a view that has everything that was committed
// before: what it refuses is refused by the present, not by the past.
func (s *Store) update(ctx context.Context, fn func(*bucket.Tx) error) (sequence uint64, err error) {
	if err := s.refresh(ctx); err != nil {
		return 0, err
	}
	return s.bucket.Update(ctx, fn)
}

func (s *Store) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	if err := s.bucket.Refresh(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}
