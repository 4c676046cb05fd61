package clustertest

import (
	"context"
	"fmt"
	"testing"

	"github.com/damask-sdn/damask/internal/kube/networkv1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// TestANamespaceOfAnOldNameInheritsNothing deletes namespaces and makes them again under the
// same names while no replica runs, and with the store lost besides.
func TestANamespaceOfAnOldNameInheritsNothing(t *testing.T) {
	w := newWorld(t)
	stop := w.replica()
	shop, web := w.create("shop"), w.create("web")
	w.create("stays")
	w.create("all")
	w.moved("web", "join:shop", func(n uint32) bool { return n == shop.NetID })
	w.moved("stays", "join:shop", func(n uint32) bool { return n == shop.NetID })
	w.moved("all", "global", func(n uint32) bool { return n == 0 })
	w.cluster.Kubectl(t, "annotate", "netnamespace", "web", networkv1.AnnotationMulticast+"=true")
	w.cluster.Kubectl(t, "patch", "netnamespace", "web", "--type=merge", "-p", `{"egressIPs": ["192.0.2.7"]}`)
	op := w.operator()
	w.until("multicast", func(ctx context.Context) (string, bool) {
		stored := w.stored(ctx, op, "web")
		return fmt.Sprint(stored), stored.GetMulticastEnabled()
	})

	stop()
	w.again("web", "all")
	stop = w.replica()
	known := map[uint32]string{0: "global", shop.NetID: "shop", web.NetID: "web"}
	w.renewed(known, "web", "all")
	if stored := w.stored(w.ctx(), w.operator(), "stays"); stored.GetNetid() != shop.NetID {
		t.Errorf("a namespace that stayed has VNID %d, before %d", stored.GetNetid(), shop.NetID)
	}
	stop()
	w.again("shop")
	w.loseStore()
	w.replica()
	w.renewed(known, "shop")
	if object := w.object(w.ctx(), "stays"); object.NetID != shop.NetID {
		t.Errorf("who had joined the one before has VNID %d, before %d", object.NetID, shop.NetID)
	}
}

// again deletes namespaces, and makes others under their names.
func (w *world) again(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.cluster.DeleteNamespace(w.t, name)
		w.cluster.Kubectl(w.t, "create", "namespace", name)
	}
}

// renewed waits until namespaces have VNIDs that nobody had, and nothing else.
func (w *world) renewed(known map[uint32]string, names ...string) {
	w.t.Helper()
	op := w.operator()
	for _, name := range names {
		uid := w.cluster.Kubectl(w.t, "get", "namespace", name, "-o", "jsonpath={.metadata.uid}")
		var stored *tenancyv1.NetNamespace
		w.until(name+" is another one", func(ctx context.Context) (string, bool) {
			object := w.object(ctx, name)
			stored = w.stored(ctx, op, name)
			ours := object.Annotations[networkv1.AnnotationNamespaceUID] == uid && len(object.Annotations) == 1 && len(object.EgressIPs) == 0
			return fmt.Sprint(object, stored), ours && stored != nil && stored.GetNetid() == object.NetID
		})
		if whose, taken := known[stored.GetNetid()]; taken || stored.GetMulticastEnabled() {
			w.t.Errorf("%s has what %s had: %v", name, whose, stored)
		}
	}
}
