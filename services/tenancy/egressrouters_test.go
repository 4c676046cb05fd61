package tenancy

import (
	"slices"
	"strings"
	"testing"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

func TestEgressRoutersAreAllowedByNetwork(t *testing.T) {
	op := start(t, vnid.Default()).operator()
	created := op.create(t, "shop", 42)
	if len(created.GetEgressRouterSources()) > 0 {
		t.Fatalf("a new namespace may have egress routers: %v", created)
	}
	set := func(sources ...string) *tenancyv1.NetNamespace {
		t.Helper()
		answer, err := op.SetNetNamespaceEgressRouters(soon(t), &tenancyv1.SetNetNamespaceEgressRoutersRequest{Name: "shop", Sources: sources})
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetNetNamespace()
	}
	allowed := set("192.0.2.96/28", "192.0.2.5/32")
	if want := []string{"192.0.2.5/32", "192.0.2.96/28"}; !slices.Equal(allowed.GetEgressRouterSources(), want) || allowed.GetRevision() <= created.GetRevision() {
		t.Fatalf("got %v, want %v", allowed, want)
	}
	if again := set("192.0.2.5/32", "192.0.2.96/28"); again.GetRevision() != allowed.GetRevision() {
		t.Errorf("the same again: %v, want revision %d", again, allowed.GetRevision())
	}
	if none := set(); len(none.GetEgressRouterSources()) > 0 || none.GetRevision() <= allowed.GetRevision() {
		t.Errorf("taken back: %v", none)
	}
}

func TestWrongNetworksOfEgressRoutersAreAllNamed(t *testing.T) {
	op := start(t, vnid.Default()).operator()
	_, err := op.SetNetNamespaceEgressRouters(soon(t), &tenancyv1.SetNetNamespaceEgressRoutersRequest{
		Name: "No_Name", Sources: []string{"192.0.2.1/24", "fd00::/64", "x", "0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/8"},
	})
	want := []string{"name", "sources[0]", "sources[1]", "sources[2]", "sources[3]", "sources[5]"}
	if got := fields(err); !slices.Equal(got, want) {
		t.Errorf("%v names %v, want %v", err, got, want)
	}
	_, err = op.SetNetNamespaceEgressRouters(soon(t), &tenancyv1.SetNetNamespaceEgressRoutersRequest{
		Name: "shop", Sources: strings.Split(strings.Repeat("10.0.0.0/8,", 64)+"10.0.0.0/8", ","),
	})
	if got := fields(err); len(got) == 0 || !slices.Contains(got, "sources") {
		t.Errorf("too many: %v names %v", err, got)
	}
}
