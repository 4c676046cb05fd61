package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// Kinds of what agents program of egress IPs: how a namespace leaves, which pods a
// selection has, and what a node hosts.
const (
	egressKind        = "egress"
	egressPodsKind    = "egresspods"
	egressHostingKind = "egresshosting"
)

// egressChange is a change of a wish whose consequences are waited for.
type egressChange struct {
	// revision of the wish; 0: it was removed.
	revision uint64
	// namespace is the only one that is concerned; empty: any may be.
	namespace string
	// concerns tells whether the change may have an address moved.
	concerns func(*egressv1.AssignedAddress) bool
	// before is what there was, to tell what changed.
	before egressState
}

// egressState is what was decided at some moment.
type egressState struct {
	assignments []*egressv1.EgressAssignment
	hostings    map[string]uint64 // revisions by node
}

// egressNow answers what is decided, for a namespace or for all.
func (s *session) egressNow(ctx context.Context, namespace string) (egressState, error) {
	assignments, err := s.assignments(ctx, namespace)
	if err != nil {
		return egressState{}, err
	}
	hostings, err := s.hostings(ctx, "")
	now := egressState{assignments: assignments, hostings: map[string]uint64{}}
	for _, h := range hostings {
		now.hostings[h.GetNode()] = h.GetRevision()
	}
	return now, err
}

// atRest returns when the change is decided upon and no address moves any more
// because of it.
func (s *session) atRest(ctx context.Context, c egressChange) error {
	var waiting error
	for {
		err := s.atRestNow(ctx, &c)
		var still *unsettledError
		if !errors.As(err, &still) {
			if err != nil && waiting != nil && ctx.Err() != nil {
				err = waiting // the time ran out in the middle of a look
			}
			return err
		}
		waiting = err
		select {
		case <-ctx.Done():
			return waiting
		case <-time.After(lookAgain):
		}
	}
}

// unsettledError says what a change still waits for.
type unsettledError struct{ words string }

func (e *unsettledError) Error() string { return "the change is stored, but " + e.words }

func (s *session) atRestNow(ctx context.Context, c *egressChange) error {
	page, err := s.egress.ListEgressAssignments(ctx, &egressv1.ListEgressAssignmentsRequest{Namespaces: oneOrAll(c.namespace), PageSize: 1})
	if err != nil {
		return err
	}
	if c.revision == 0 {
		// A wish that is removed has no revision any more: this is later.
		c.revision = page.GetSequence()
	}
	if page.GetDecided() < c.revision {
		return &unsettledError{"the egress service has not decided yet: no replica does, or it does not know the cluster yet"}
	}
	assignments, err := s.assignments(ctx, c.namespace)
	if err != nil {
		return err
	}
	var moving []string
	for _, row := range egressIPRows(assignments, nil, "") {
		if a := row.address; a.GetState() == egressv1.AddressState_ADDRESS_STATE_MOVING && c.concerns(a) {
			moving = append(moving, fmt.Sprintf("%s is still being given up by node %s", a.GetIp(), a.GetNode()))
		}
	}
	if len(moving) > 0 {
		return &unsettledError{strings.Join(moving, ", and ")}
	}
	return nil
}

// announceEgress waits for a change, if that is wanted, and prints what became of it:
// a line for each that say answers.
func (s *session) announceEgress(ctx context.Context, command *cobra.Command, wait bool, c egressChange, say func([]*egressv1.EgressAssignment) []string) error {
	if !wait {
		assignments, err := s.assignments(ctx, c.namespace)
		if err != nil {
			return err
		}
		return s.announce(ctx, command, false, say(assignments), nil)
	}
	settling := ctx
	if s.nodesTime > 0 {
		var cancel context.CancelFunc
		settling, cancel = context.WithTimeout(command.Context(), s.nodesTime)
		defer cancel()
	}
	if err := s.atRest(settling, c); err != nil {
		return err
	}
	after, err := s.egressNow(settling, c.namespace)
	if err != nil {
		return err
	}
	objects, err := s.egressObjects(settling, c, after)
	if err != nil {
		return err
	}
	return s.announce(settling, command, true, say(after.assignments), objects)
}

// egressObjects are what nodes have to have in force after a change: what differs from
// before, and all that there is of the namespace that is concerned. Who says again what
// somebody said before may be the one who waits for it.
func (s *session) egressObjects(ctx context.Context, c egressChange, after egressState) ([]object, error) {
	was, is := revisions(c.before.assignments), revisions(after.assignments)
	var changed []string
	var objects []object
	for namespace, revision := range is {
		if revision != was[namespace] || namespace == c.namespace {
			changed = append(changed, namespace)
			objects = append(objects, object{egressKind, namespace, revision})
		}
	}
	for namespace, revision := range was {
		if is[namespace] == 0 {
			// A node that took over something later, and knows none, has none.
			objects = append(objects, object{egressKind, namespace, revision + 1})
		}
	}
	for _, namespace := range changed {
		lists, err := s.egressPods(ctx, namespace)
		if err != nil {
			return nil, err
		}
		for _, list := range lists {
			objects = append(objects, object{egressPodsKind, namespace + "/" + list.GetSelection(), list.GetRevision()})
		}
	}
	hosts := hostsOf(after.assignments, c.namespace)
	for node, revision := range after.hostings {
		if revision != c.before.hostings[node] || hosts[node] {
			objects = append(objects, object{egressHostingKind, node, revision})
		}
	}
	slices.SortFunc(objects, func(a, b object) int { return strings.Compare(a.kind+" "+a.name, b.kind+" "+b.name) })
	return objects, nil
}

// hostsOf answers which nodes have addresses of a namespace.
func hostsOf(assignments []*egressv1.EgressAssignment, namespace string) map[string]bool {
	hosts := map[string]bool{}
	for _, a := range assignments {
		for _, address := range a.GetAddresses() {
			if a.GetNamespace() == namespace {
				hosts[address.GetNode()] = true
			}
		}
	}
	return hosts
}

// revisions answers the latest revision of each namespace.
func revisions(assignments []*egressv1.EgressAssignment) map[string]uint64 {
	latest := map[string]uint64{}
	for _, a := range assignments {
		latest[a.GetNamespace()] = max(latest[a.GetNamespace()], a.GetRevision())
	}
	return latest
}

// whereIs says in words what has become of an address.
func whereIs(address *egressv1.AssignedAddress) string {
	switch address.GetState() {
	case egressv1.AddressState_ADDRESS_STATE_HOSTED:
		return fmt.Sprintf("%s is hosted by node %s", address.GetIp(), address.GetNode())
	case egressv1.AddressState_ADDRESS_STATE_MOVING:
		return fmt.Sprintf("%s is being given up by node %s", address.GetIp(), address.GetNode())
	}
	return fmt.Sprintf("%s is not hosted: %s", address.GetIp(), address.GetDetail())
}
