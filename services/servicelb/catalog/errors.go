package catalog

import (
	"errors"
	"fmt"
	"strings"

	"github.com/damask-sdn/damask/internal/rpcerr"
)

// ErrStoreAway is in the chain of errors that are not the caller's fault: the
// store did not answer.
var ErrStoreAway = errors.New("the store does not answer")

// ErrNoNetwork says that the cluster's service networks are not known yet, so
// that no cluster IP can be given or checked.
var ErrNoNetwork = errors.New("the cluster's service networks are not known yet: ipam has no address plan, or does not answer")

// InvalidError says what is wrong with a request, in the light of what is
// stored.
type InvalidError struct{ Violations rpcerr.Violations }

func (e *InvalidError) Error() string { return "the request has violations" }

// NotFoundError says that there is no such service.
type NotFoundError struct{ Name Name }

func (e *NotFoundError) Error() string { return fmt.Sprintf("there is no service %s", e.Name) }

// NotIdledError says that a service is not idled: nothing waits for its pods.
type NotIdledError struct{ Name Name }

func (e *NotIdledError) Error() string {
	return fmt.Sprintf("service %s is not idled, or has endpoints", e.Name)
}

// ExistsError says that a service is there already, and is not as asked.
type ExistsError struct{ Name Name }

func (e *ExistsError) Error() string {
	return fmt.Sprintf("service %s exists already, and is not as asked; update it instead", e.Name)
}

// StaleError says that an object changed since the caller read it.
type StaleError struct {
	What          string
	Given, Stored uint64
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("%s changed since it was read: revision %d is given, %d is stored", e.What, e.Given, e.Stored)
}

// Conflict is a wished address or port that another service has.
type Conflict struct {
	// Field is where it is wished for.
	Field string
	// Value is the address or port.
	Value string
	// By is the service that has it, "namespace/name".
	By string
}

// TakenError says that others have what was wished for.
type TakenError struct{ Conflicts []Conflict }

func (e *TakenError) Error() string {
	phrases := make([]string, len(e.Conflicts))
	for i, c := range e.Conflicts {
		phrases[i] = fmt.Sprintf("%s: %s belongs to service %s", c.Field, c.Value, c.By)
	}
	return strings.Join(phrases, "; ")
}

// ExhaustedError says that nothing of a kind is free.
type ExhaustedError struct {
	// Field is what could not be filled.
	Field string
	// What is not free: "node port".
	What string
	// Total is how many there are, all taken.
	Total int
}

func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("%s: all %d are taken; delete services, or configure more", e.What, e.Total)
}

// TooManySlicesError says that a service has as many slices as it can have.
type TooManySlicesError struct {
	Name  Name
	Limit int
}

func (e *TooManySlicesError) Error() string {
	return fmt.Sprintf("service %s has %d EndpointSlices, which is the limit", e.Name, e.Limit)
}
