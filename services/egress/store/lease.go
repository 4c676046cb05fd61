package store

import (
	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/lease"
)

const leaseKey = "lease.placement"

// ErrLeaseLost says that another replica decides now.
var ErrLeaseLost = lease.ErrLost

// Lease is a replica's part in choosing the one that decides.
type Lease struct{ *lease.Lease }

// NewLease returns a replica's part. id is unique.
func NewLease(id string) *Lease { return &Lease{lease.New(leaseKey, id)} }

// Use ties the lease to the store of the bucket that it observes.
func (l *Lease) Use(s *Store) { l.Lease.Use(s.bucket) }

// decided answers up to which sequence a snapshot shows decisions; 0 while that is
// not known.
func decided(s bucket.Snapshot) uint64 { return lease.DecidedIn(s, leaseKey) }
