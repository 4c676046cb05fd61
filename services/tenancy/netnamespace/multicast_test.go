package netnamespace

import (
	"errors"
	"strings"
	"testing"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

func TestMulticastIsOffUntilItIsEnabledAndStaysWithTheNamespace(t *testing.T) {
	r := single(t, vnid.Default())
	shop := mustCreate(t, r, "shop", 42)
	mustCreate(t, r, "web")
	if shop.GetMulticastEnabled() {
		t.Fatal("a new namespace has multicast")
	}
	on, err := r.SetMulticast(soon(t), "shop", true)
	if err != nil || !on.GetMulticastEnabled() || on.GetNetid() != 42 || on.GetRevision() <= shop.GetRevision() {
		t.Fatalf("enable: %v, %v", on, err)
	}
	again, err := r.SetMulticast(soon(t), "shop", true)
	if err != nil || again.GetRevision() != on.GetRevision() {
		t.Fatalf("enable again: %v, %v, want revision %d", again, err, on.GetRevision())
	}
	// Neither asking for the namespace again nor another VNID changes it.
	if same := mustCreate(t, r, "shop", 42); !same.GetMulticastEnabled() {
		t.Errorf("created again: %v", same)
	}
	if joined, err := r.Join(soon(t), "shop", "web"); err != nil || !joined.GetMulticastEnabled() {
		t.Errorf("joined: %v, %v", joined, err)
	}
	if web, err := r.fresh(soon(t), "web"); err != nil || web.GetMulticastEnabled() {
		t.Errorf("the one that was joined: %v, %v", web, err)
	}
	off, err := r.SetMulticast(soon(t), "shop", false)
	if err != nil || off.GetMulticastEnabled() || off.GetRevision() <= on.GetRevision() {
		t.Fatalf("disable: %v, %v", off, err)
	}
	if err := checkOwners(r.bucket.Snapshot()); err != nil {
		t.Fatal(err)
	}
}

func TestMulticastOfANamespaceThatComesAgainIsOff(t *testing.T) {
	r := single(t, vnid.Default())
	mustCreate(t, r, "shop")
	if _, err := r.SetMulticast(soon(t), "shop", true); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(soon(t), "shop"); err != nil {
		t.Fatal(err)
	}
	var notFound *NotFoundError
	if _, err := r.SetMulticast(soon(t), "shop", false); !errors.As(err, &notFound) {
		t.Errorf("disable of what is gone: %v, want NotFoundError", err)
	}
	if shop := mustCreate(t, r, "shop"); shop.GetMulticastEnabled() {
		t.Errorf("created anew: %v", shop)
	}
}

func TestWithoutTenantsMulticastCanOnlyBeDisabled(t *testing.T) {
	r := single(t, vnid.Default())
	mustCreate(t, r, "shop")
	if _, err := r.SetMulticast(soon(t), "shop", true); err != nil {
		t.Fatal(err)
	}
	setMode(t, r, tenancyv1.IsolationMode_ISOLATION_MODE_SUBNET)
	var mode *ModeError
	if _, err := r.SetMulticast(soon(t), "shop", true); !errors.As(err, &mode) || !strings.Contains(err.Error(), "is subnet, in which packets carry no VNIDs") {
		t.Errorf("enable: %v, want ModeError", err)
	}
	if off, err := r.SetMulticast(soon(t), "shop", false); err != nil || off.GetMulticastEnabled() {
		t.Errorf("disable: %v, %v", off, err)
	}
	// Policies decide in these, and packets carry VNIDs all the same.
	for _, carries := range []tenancyv1.IsolationMode{
		tenancyv1.IsolationMode_ISOLATION_MODE_NETWORKPOLICY, tenancyv1.IsolationMode_ISOLATION_MODE_COMBINED,
	} {
		setMode(t, r, carries)
		if on, err := r.SetMulticast(soon(t), "shop", true); err != nil || !on.GetMulticastEnabled() {
			t.Errorf("enable in mode %s: %v, %v", carries, on, err)
		}
		if _, err := r.SetMulticast(soon(t), "shop", false); err != nil {
			t.Error(err)
		}
	}
}
