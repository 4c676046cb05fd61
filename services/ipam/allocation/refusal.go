package allocation

import "errors"

// ErrUnavailable is in the chain of errors of changes that were not tried,
// because the store does not answer this replica.
var ErrUnavailable = errors.New("the store does not answer")

// Kind is why something is refused.
type Kind int

// The kinds of refusals.
const (
	// NoClusterNetwork: there is no address plan yet.
	NoClusterNetwork Kind = iota + 1
	// NotFound: there is no such object.
	NotFound
	// AlreadyExists: there is another object of this name.
	AlreadyExists
	// StaleRevision: the object was changed since the caller read it.
	StaleRevision
	// OtherIdentity: the name belongs to another machine now.
	OtherIdentity
	// Overlap: an address or a subnet is somebody else's.
	Overlap
	// InUse: nodes use what would change.
	InUse
	// Exhausted: every range is full.
	Exhausted
	// Held: no unknown node gets a subnet yet; that passes by itself.
	Held
)

// Refusal is an error that the caller can do something about.
type Refusal struct {
	// Kind is for programs.
	Kind Kind
	// Message is for people; it names everything that stands against it.
	Message string
	// Metadata names the objects in question; may be nil.
	Metadata map[string]string
}

// Error is the message.
func (r *Refusal) Error() string { return r.Message }
