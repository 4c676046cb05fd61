package netnamespace

import (
	"fmt"
	"strings"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// NotFoundError says that there is no namespace of that name.
type NotFoundError struct{ Name string }

func (e *NotFoundError) Error() string { return fmt.Sprintf("namespace %q has no VNID", e.Name) }

// ExistsError says that a namespace is there already, and is not what was
// wished for.
type ExistsError struct {
	Name string
	// Differs says in what: "VNID 42 instead of 7".
	Differs []string
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("namespace %q exists already, with %s", e.Name, strings.Join(e.Differs, " and "))
}

// TakenError says that others have the VNID that was wished for.
type TakenError struct {
	VNID uint32
	// By is who has it, one name or more.
	By []string
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("VNID %d belongs to namespace %q; join that namespace instead", e.VNID, e.By[0])
}

// ExhaustedError says that no VNID is free.
type ExhaustedError struct{ Total int }

func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("all %d VNIDs are taken; delete or join namespaces to free some", e.Total)
}

// CrowdedError says that a VNID has as many namespaces as it can have.
type CrowdedError struct {
	VNID  uint32
	Limit int
}

func (e *CrowdedError) Error() string {
	return fmt.Sprintf("VNID %d is shared by %d namespaces, which is the limit", e.VNID, e.Limit)
}

// DefaultError says that the namespace "default" cannot be what was asked.
type DefaultError struct {
	// Verb is what cannot be done to it: "deleted".
	Verb string
}

func (e *DefaultError) Error() string {
	return fmt.Sprintf("namespace %q cannot be %s", Default, e.Verb)
}

// ModeError says that VNIDs do not isolate at present, so that moving
// namespaces among them would be without effect, and multicast without bounds.
type ModeError struct {
	Mode tenancyv1.IsolationMode
	// Multicast says that it was to be enabled.
	Multicast bool
}

func (e *ModeError) Error() string {
	mode := strings.ToLower(strings.TrimPrefix(e.Mode.String(), "ISOLATION_MODE_"))
	if e.Multicast {
		return fmt.Sprintf("the isolation mode is %s, in which packets carry no VNIDs that would keep multicast within a tenant", mode)
	}
	return fmt.Sprintf("the isolation mode is %s, and must be multitenant or combined to join, isolate or make global", mode)
}

// PodsError says that a namespace still has pods on the network.
type PodsError struct {
	Name  string
	Count int
	// Example is one of the pods, and Node where it runs.
	Example, Node string
}

func (e *PodsError) Error() string {
	if e.Count == 1 {
		return fmt.Sprintf("namespace %q still has a pod on the network: %s on node %s", e.Name, e.Example, e.Node)
	}
	return fmt.Sprintf("namespace %q still has %d pods on the network, %s on node %s among them", e.Name, e.Count, e.Example, e.Node)
}
