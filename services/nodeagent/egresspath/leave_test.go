package egresspath

import (
	"testing"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// TestOutsideSeesTheEgressIPFromEveryNode has pods isolated, where policies decide: answers
// from outside belong to what they asked, and pass.
func TestOutsideSeesTheEgressIPFromEveryNode(t *testing.T) {
	for _, mode := range []tenancyv1.IsolationMode{multitenant, networkPolicy, combined} {
		t.Run(mode.String(), func(t *testing.T) { outsideSeesTheEgressIP(t, newWorldIn(t, 3, mode)) })
	}
}

func outsideSeesTheEgressIP(t *testing.T, w *world) {
	t.Helper()
	serve(t, w.outside, ":8080")
	local, remote := w.nodes[0].addPod(t, "red", 5), w.nodes[1].addPod(t, "red", 5)
	plain := w.nodes[0].addPod(t, "plain", 6)
	// Nothing is known yet.
	for _, p := range []*pod{local, remote, plain} {
		p.wantClosed(t)
	}
	w.seen.only(t)
	for _, n := range w.nodes {
		n.leave(t, "plain")
		n.leave(t, "red", by("red", map[string]int{"192.0.2.100": -1}))
	}
	plain.wantSeenAs(t, "192.0.2.1")
	w.seen.only(t, "192.0.2.1")
	// There is one, and no node has it.
	local.wantClosed(t)
	remote.wantClosed(t)
	w.seen.only(t)

	w.nodes[0].hosts(t, 5, hosted("192.0.2.100", "red", 0))
	for _, n := range w.nodes {
		n.leave(t, "red", by("red", map[string]int{"192.0.2.100": 0}))
	}
	local.wantSeenAs(t, "192.0.2.100")
	remote.wantSeenAs(t, "192.0.2.100")
	w.seen.only(t, "192.0.2.100")
	plain.wantSeenAs(t, "192.0.2.1")
	serve(t, remote.ns, ":8080")
	w.nodes[1].wantIsolated(t, local, remote)
	if t.Failed() {
		t.Log(w.nodes[0].describe(t))
	}
}
