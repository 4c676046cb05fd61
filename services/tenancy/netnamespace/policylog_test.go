package netnamespace

import (
	"errors"
	"testing"

	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

func TestNothingOfPoliciesIsLoggedUntilItIsAskedFor(t *testing.T) {
	r := single(t, vnid.Default())
	shop := mustCreate(t, r, "shop", 42)
	if shop.GetPolicyLogDenied() || shop.GetPolicyLogAllowed() {
		t.Fatalf("a new namespace is %v", shop)
	}
	on, err := r.SetPolicyLog(soon(t), "shop", true, false)
	if err != nil || !on.GetPolicyLogDenied() || on.GetPolicyLogAllowed() || on.GetNetid() != 42 || on.GetRevision() <= shop.GetRevision() {
		t.Fatalf("denied: %v, %v", on, err)
	}
	if again, err := r.SetPolicyLog(soon(t), "shop", true, false); err != nil || again.GetRevision() != on.GetRevision() {
		t.Fatalf("denied again: %v, %v, want revision %d", again, err, on.GetRevision())
	}
	if both, err := r.SetPolicyLog(soon(t), "shop", true, true); err != nil || !both.GetPolicyLogDenied() || !both.GetPolicyLogAllowed() {
		t.Fatalf("both: %v, %v", both, err)
	}
	if off, err := r.SetPolicyLog(soon(t), "shop", false, false); err != nil || off.GetPolicyLogDenied() || off.GetPolicyLogAllowed() {
		t.Fatalf("neither: %v, %v", off, err)
	}
	var notFound *NotFoundError
	if _, err := r.SetPolicyLog(soon(t), "gone", true, true); !errors.As(err, &notFound) {
		t.Errorf("of what is not there: %v, want NotFoundError", err)
	}
}
