package egress

import (
	"fmt"
	"slices"
	"testing"
	"time"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// decided looks until all is decided up to a sequence, and answers that page.
func (c client) decided(t *testing.T, namespace string, sequence uint64) *egressv1.ListEgressAssignmentsResponse {
	t.Helper()
	for ctx := soon(t); ; {
		page, err := c.ListEgressAssignments(ctx, &egressv1.ListEgressAssignmentsRequest{Namespaces: []string{namespace}})
		if err != nil {
			t.Fatal(err)
		}
		if page.GetDecided() > page.GetSequence() {
			t.Fatalf("decided up to %d of %d", page.GetDecided(), page.GetSequence())
		}
		if page.GetDecided() >= sequence {
			return page
		}
	}
}

// TestWhatIsDecidedShowsInTheSamePage changes wishes and looks for the decision
// through whichever replica answers: the first page that says "decided" has it.
func TestWhatIsDecidedShowsInTheSamePage(t *testing.T) {
	sys := start(t, 2)
	op := sys.operator()
	sys.tenancy.netid("shop", 42)
	var slowest time.Duration
	for n := range 30 {
		ips := []string{fmt.Sprintf("192.0.2.%d", n+1), "192.0.2.99"}
		wish := op.want(t, "shop", ips...)
		began := time.Now()
		page := op.decided(t, "shop", wish.GetRevision())
		slowest = max(slowest, time.Since(began))
		var got []string
		for _, a := range page.GetEgressAssignments() {
			for _, address := range a.GetAddresses() {
				got = append(got, address.GetIp())
			}
		}
		if !slices.Equal(got, ips) {
			t.Fatalf("decided up to %d, a wish of revision %d: %v, want %v", page.GetDecided(), wish.GetRevision(), got, ips)
		}
	}
	t.Logf("the slowest of 30 decisions was seen after %v", slowest)
	// One that is removed has no revision: whoever waits takes the sequence of a
	// list that he reads afterwards.
	if wish := op.want(t, "shop"); wish.GetRevision() != 0 {
		t.Fatalf("a wish for nothing is stored: %v", wish)
	}
	after, err := op.ListNetNamespaceEgress(soon(t), &egressv1.ListNetNamespaceEgressRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if page := op.decided(t, "shop", after.GetSequence()); len(page.GetEgressAssignments()) != 0 {
		t.Errorf("it wants nothing, and gets %v", page.GetEgressAssignments())
	}
}
