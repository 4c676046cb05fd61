package attach_test

import (
	"os"
	"strings"
	"testing"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/attach"
)

// bounds answers what the kernel bounds a pod to, to it and from it.
func (n *node) bounds(t *testing.T, p *pod) string {
	t.Helper()
	rate := func(text string) string {
		_, after, bound := strings.Cut(text, "tbf da: root")
		if !bound {
			return "none"
		}
		_, after, _ = strings.Cut(after, "rate ")
		rate, _, _ := strings.Cut(after, " ")
		return rate
	}
	veth := ""
	for _, l := range n.leases.List() {
		if l.Attachment.GetContainerId() == p.id {
			veth = l.Attachment.GetHostVeth()
		}
	}
	return rate(n.ns.Run(t, "tc", "qdisc", "show", "dev", veth)) + " " + rate(p.Run(t, "tc", "qdisc", "show", "dev", "eth0"))
}

func TestBandwidthChangesLiveAndOutlivesAgents(t *testing.T) {
	n := newNode(t)
	s := n.server(nil)
	p, other := newPod(t, "shop", "web"), newPod(t, "shop", "other")
	r := p.request()
	r.PodUid = "uid-1"
	r.Bandwidth = &cniv1.Bandwidth{IngressRate: 10_000_000, IngressBurst: 1<<32 - 1}
	add(t, s, r)
	add(t, s, other.request())
	expect := func(what, want string) {
		t.Helper()
		if got := n.bounds(t, p); got != want {
			t.Errorf("%s: the pod is bound to %q, want %q", what, got, want)
		}
	}
	expect("as the runtime said", "10Mbit none")
	set := func(uid string, b *cniv1.Bandwidth) {
		t.Helper()
		if err := s.SetBandwidth(t.Context(), attach.Pod{Namespace: "shop", Name: "web", UID: uid}, b); err != nil {
			t.Error(err)
		}
	}
	set("uid-0", nil)
	expect("a Pod of that name before it", "10Mbit none")
	set("uid-1", &cniv1.Bandwidth{IngressRate: 20_000_000, EgressRate: 5_000_000})
	expect("changed", "20Mbit 5Mbit")
	// A switch that starts removes what bounds its devices.
	n.sw.KillVswitchd()
	n.sw.StartVswitchd(t)
	n.sw.Vsctl(t, "set", "Open_vSwitch", ".", "external_ids:seen=yes") // It has configured its ports.
	s.RestoreBandwidth(t.Context())
	expect("behind another switch", "20Mbit 5Mbit")
	rows := n.sw.Vsctl(t, "--columns=_uuid,name,ofport,external_ids", "list", "Interface")

	// Somebody takes one away while the agent is gone.
	p.Run(t, "tc", "qdisc", "del", "dev", "eth0", "root")
	n.restart(t)
	n.restore(t)
	s = n.server(nil)
	if got := s.RestoreBandwidth(t.Context()); len(got) != 1 {
		t.Errorf("restored %q, want one", got)
	}
	expect("restored", "20Mbit 5Mbit")
	// The lease store is lost: the port's marks tell.
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(n.place.Leases); err != nil {
		t.Fatal(err)
	}
	n.reopen(t)
	n.restore(t)
	s = n.server(nil)
	expect("adopted", "20Mbit 5Mbit")
	if now := n.sw.Vsctl(t, "--columns=_uuid,name,ofport,external_ids", "list", "Interface"); now != rows {
		t.Errorf("the switch's rows were\n%s\nand are\n%s", rows, now)
	}
	set("uid-1", nil)
	expect("removed", "none none")
	if now := n.sw.Vsctl(t, "--columns=external_ids", "list", "Interface"); strings.Contains(now, "ingressRate") {
		t.Errorf("the port is still marked as bound: %s", now)
	}
	if got := n.bounds(t, other); got != "none none" {
		t.Errorf("a pod of which nobody spoke is bound to %q", got)
	}
	n.restart(t)
	n.restore(t)
	s = n.server(nil)
	if got := s.RestoreBandwidth(t.Context()); len(got) != 0 {
		t.Errorf("restored %q, want nothing", got)
	}
	expect("after another start", "none none")
}

func TestEveryWrongBandwidthIsNamed(t *testing.T) {
	n := newNode(t)
	p := newPod(t, "shop", "web")
	r := p.request()
	r.Bandwidth = &cniv1.Bandwidth{IngressRate: 999, EgressBurst: 8}
	_, err := n.server(nil).Add(t.Context(), r)
	expectReason(t, err, attach.ReasonInvalidConfig, "bandwidth.ingress_rate: 999", "bandwidth.egress_burst: 8 without a rate")
	n.expectNothing(t)
}
