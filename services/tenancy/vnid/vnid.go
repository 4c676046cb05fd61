// Package vnid decides which virtual network id a tenant gets.
//
// It owns the numbers: which are special, which are handed out, and which is
// the next free one. It promises that Next costs a handful of steps however
// many numbers are taken, also when one is left. It is pure: it stores
// nothing, and knows nothing of namespaces. That a number has one owner is
// promised by package netnamespace, which asks here for candidates only.
package vnid

import "fmt"

// The special numbers, as the field knows them.
const (
	// Global is the VNID that reaches every tenant, and is reached by every
	// tenant. Any number of namespaces have it.
	Global uint32 = 0
	// ControlPlane is given to the control plane's namespaces that ask for it;
	// they share it.
	ControlPlane uint32 = 1
	// First is the lowest VNID that is handed out; 2 to 9 are reserved.
	First uint32 = 10
	// Last is the highest VNID: the field of VXLAN and Geneve has 24 bits.
	Last uint32 = 1<<24 - 1
)

// Range is a range of VNIDs that are handed out, both ends included.
type Range struct {
	First, Last uint32
}

// Default is the range of a cluster: First to Last.
func Default() Range { return Range{First: First, Last: Last} }

// Validate reports a range that is empty or holds special numbers.
func (r Range) Validate() error {
	switch {
	case r.First < First:
		return fmt.Errorf("VNIDs below %d are special, the range starts at %d", First, r.First)
	case r.Last > Last:
		return fmt.Errorf("VNIDs have 24 bits, the range ends at %d", r.Last)
	case r.First > r.Last:
		return fmt.Errorf("the range %d to %d is empty", r.First, r.Last)
	}
	return nil
}

// Size is how many VNIDs the range has.
func (r Range) Size() int { return int(r.Last-r.First) + 1 }

// Contains says whether the range has n.
func (r Range) Contains(n uint32) bool { return n >= r.First && n <= r.Last }

// Grantable says whether a namespace may wish for n at all: the two shared
// numbers, and what the range hands out.
func (r Range) Grantable(n uint32) bool {
	return Shared(n) || r.Contains(n)
}

// Shared says whether n is granted to whoever asks, also when others have it.
func Shared(n uint32) bool { return n == Global || n == ControlPlane }
