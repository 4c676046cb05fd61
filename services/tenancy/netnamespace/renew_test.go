package netnamespace

import (
	"errors"
	"testing"

	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

func TestARenewedNamespaceInheritsNothing(t *testing.T) {
	r := single(t, vnid.Range{First: 10, Last: 13})
	shop := mustCreate(t, r, "shop")
	mustCreate(t, r, "web")
	if _, err := r.Join(soon(t), "web", "shop"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.SetMulticast(soon(t), "shop", true); err != nil {
		t.Fatal(err)
	}
	if _, err := r.SetPolicyLog(soon(t), "shop", true, true); err != nil {
		t.Fatal(err)
	}
	if _, err := r.SetEgressRouters(soon(t), "shop", []string{"192.0.2.0/24"}); err != nil {
		t.Fatal(err)
	}
	renewed, err := r.Renew(soon(t), "shop", map[string]string{NameLabel: "shop", "tier": "new"})
	if err != nil {
		t.Fatal(err)
	}
	if renewed.GetNetid() == shop.GetNetid() || renewed.GetNetid() == 0 ||
		renewed.GetMulticastEnabled() || renewed.GetPolicyLogDenied() || renewed.GetPolicyLogAllowed() || len(renewed.GetEgressRouterSources()) > 0 ||
		len(renewed.GetLabels()) != 2 || renewed.GetLabels()["tier"] != "new" {
		t.Errorf("renewed as %v", renewed)
	}
	if stored, err := r.Get("shop"); err != nil || stored.GetNetid() != renewed.GetNetid() || stored.GetRevision() != renewed.GetRevision() {
		t.Errorf("stored is %v, %v; answered was %v", stored, err, renewed)
	}
	if left, err := r.Get("web"); err != nil || left.GetNetid() != shop.GetNetid() {
		t.Errorf("who had joined has %v, %v", left, err)
	}
	if _, err := r.MakeGlobal(soon(t), "shop"); err != nil {
		t.Fatal(err)
	}
	if again, err := r.Renew(soon(t), "shop", map[string]string{NameLabel: "shop"}); err != nil || again.GetNetid() < 10 {
		t.Errorf("one that was global: %v, %v", again, err)
	}
	var notFound *NotFoundError
	if _, err := r.Renew(soon(t), "nobody", nil); !errors.As(err, &notFound) {
		t.Errorf("one that is not there: %v", err)
	}
	var isDefault *DefaultError
	if _, err := r.Renew(soon(t), Default, nil); !errors.As(err, &isDefault) {
		t.Errorf("the default one: %v", err)
	}
}
