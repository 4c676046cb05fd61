package identity_test

import (
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
)

func TestAnIdentityReadsBackAsItWasWritten(t *testing.T) {
	for _, id := range []identity.ID{
		identity.Node("infra.ocp.cn"), identity.Operator("root"), identitytest.Service(t, "ipam"), identitytest.Service(t, "nats"),
	} {
		uri, err := id.URI("prod.example")
		if err != nil {
			t.Fatal(err)
		}
		back, err := identity.Parse("prod.example", uri.String())
		if err != nil || back != id {
			t.Errorf("%s: got %v, %v", uri, back, err)
		}
	}
}

func TestWhatIsNoIdentityIsRefused(t *testing.T) {
	for _, uri := range []string{
		"", "node/n1", "https://damask/node/n1", "spiffe://other/node/n1", "spiffe://damask", "spiffe://damask/node", "spiffe://damask/node/",
		"spiffe://damask/node/a/b", "spiffe://damask/node/..", "spiffe://damask/node/a b", "spiffe://damask/service/bank", "spiffe://damask/pod/x", "spiffe://damask/node/n1?x=1",
	} {
		if id, err := identity.Parse("damask", uri); err == nil {
			t.Errorf("%q: accepted as %v", uri, id)
		}
	}
	for _, id := range []identity.ID{{}, identity.Node(""), identity.Node("a/b"), identity.Node("ä"), {Role: accessv1.Role_ROLE_IPAM, Name: "tenancy"}} {
		if uri, err := id.URI("damask"); err == nil {
			t.Errorf("%v: written as %s", id, uri)
		}
	}
	if _, err := identity.Service("bank"); err == nil {
		t.Error("there is a service bank")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("spiffe://damask/node/n1.example.org")
	f.Add("spiffe://damask/service/ipam")
	f.Add("spiffe://damask/operator/../node/x")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := identity.Parse("damask", text)
		if err != nil {
			return
		}
		uri, err := id.URI("damask")
		if err != nil || !strings.EqualFold(uri.String(), text) {
			t.Errorf("%q is %v, which is %v (%v)", text, id, uri, err)
		}
	})
}
