package tenancy

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// compare checks the store against what the clients know, with no help of the
// service's own code: the namespaces are the expected ones, each VNID from 10
// up is listed for exactly those that have it, only the joined share one, and
// no VNID is taken by nobody.
func (w *workload) compare(t *testing.T, store bucket.Snapshot) {
	t.Helper()
	w.want["default"] = true
	holders := map[string][]string{}
	seen := 0
	for _, entry := range store.List("netnamespace.") {
		ns := &tenancyv1.NetNamespace{}
		if err := proto.Unmarshal(entry.Value, ns); err != nil {
			t.Fatal(err)
		}
		seen++
		if !w.want[ns.GetName()] {
			t.Errorf("%s is there, and was deleted", ns.GetName())
		}
		if ns.GetNetid() != 0 {
			number := strconv.Itoa(int(ns.GetNetid()))
			holders[number] = append(holders[number], ns.GetName())
		}
	}
	if seen != len(w.want) {
		t.Errorf("%d namespaces are there, want %d", seen, len(w.want))
	}
	listed := 0
	for _, entry := range store.List("vnid.") {
		listed++
		number := strings.TrimPrefix(entry.Key, "vnid.")
		names := strings.Split(string(entry.Value), "\n")
		slices.Sort(holders[number])
		if !slices.Equal(names, holders[number]) {
			t.Errorf("VNID %s is listed for %v, and had by %v", number, names, holders[number])
		}
		if len(names) > 1 && !slices.Contains(names, "tenant-0") {
			t.Errorf("VNID %s is shared by %v, who did not join", number, names)
		}
	}
	if listed != len(holders) {
		t.Errorf("%d VNIDs are listed, %d are had", listed, len(holders))
	}
}
