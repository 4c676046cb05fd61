package attach_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/netnstest"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/attach"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
)

// away is tenancy that cannot be asked.
type away struct{}

func (away) VNID(context.Context, string) (uint32, error) { return 0, errors.New("tenancy is away") }

func (away) EgressRouterSources(string) []netip.Prefix { return nil }

func TestDeleteNeedsNoControlServiceAndNoNamespace(t *testing.T) {
	n := newNode(t)
	told := &reports{}
	s := n.server(func(p *attach.Parts) { p.Registry = told })
	for _, id := range []string{"whole", "gone"} {
		add(t, s, newPod(t, "shop", id).request())
	}
	s = n.server(func(p *attach.Parts) {
		p.Names, p.Registry, p.Site = away{}, told, site{missing: []string{"everything"}}
	})
	for _, r := range []*cniv1.DeleteRequest{
		{ContainerId: "whole", Ifname: "eth0", Netns: "/run/netns/was-never"},
		{ContainerId: "gone", Ifname: "eth0"},
		{ContainerId: "gone", Ifname: "eth0"},
		{ContainerId: "unknown", Ifname: "eth0", Netns: "/run/netns/x"},
	} {
		if _, err := s.Delete(t.Context(), r); err != nil {
			t.Errorf("delete %v: %v", r, err)
		}
	}
	n.expectNothing(t)
	if got, want := told.all(), "up whole, up gone, down whole, down gone"; got != want {
		t.Errorf("the registry was told %q, want %q", got, want)
	}
}

// TestDeleteWhenTheNamespaceHasVanished lets the kernel remove both ends of the
// cable, as when a node's runtime dies, before DEL comes.
func TestDeleteWhenTheNamespaceHasVanished(t *testing.T) {
	n := newNode(t)
	s := n.server(nil)
	t.Run("the pod lives and dies", func(t *testing.T) {
		add(t, s, newPod(t, "shop", "web").request())
	})
	if _, err := s.Delete(t.Context(), &cniv1.DeleteRequest{ContainerId: "web", Ifname: "eth0"}); err != nil {
		t.Fatal(err)
	}
	n.expectNothing(t)
}

// stubborn is a bridge that does not let ports go.
type stubborn struct{ *bridge.Bridge }

func (stubborn) DeletePort(context.Context, string) error { return errors.New("ovsdb is away") }

func TestFailedDeleteKeepsTheAddress(t *testing.T) {
	n := newNode(t)
	p := newPod(t, "shop", "web")
	add(t, n.server(nil), p.request())
	_, err := n.server(func(parts *attach.Parts) { parts.Ports = stubborn{n.bridge} }).Delete(t.Context(), p.deletion())
	expectReason(t, err, attach.ReasonTryAgainLater, "ovsdb is away")
	l, ok := n.leases.Lookup(lease.Key{ContainerID: "web", Ifname: "eth0"})
	if !ok || l.Attached {
		t.Fatalf("lease known %t, attached %t; want it kept and marked", ok, l.Attached)
	}
	if _, err := n.server(nil).Delete(t.Context(), p.deletion()); err != nil {
		t.Fatalf("second DEL: %v", err)
	}
	n.expectNothing(t)
}

func TestAddAfterAFailedDeleteBeginsAnew(t *testing.T) {
	n := newNode(t)
	p, peer := newPod(t, "shop", "web"), newPod(t, "shop", "peer")
	s := n.server(nil)
	peerIP := ipOf(add(t, s, peer.request()))
	first := add(t, s, p.request())
	if _, err := n.server(func(parts *attach.Parts) { parts.Ports = stubborn{n.bridge} }).Delete(t.Context(), p.deletion()); err == nil {
		t.Fatal("DEL succeeded with a port that stays")
	}
	again := add(t, s, p.request())
	if again.GetAttachment().GetHostVeth() == first.GetAttachment().GetHostVeth() {
		t.Error("the new cable has the old one's name")
	}
	n.sw.Settle(t)
	if !p.reaches(peerIP) {
		t.Error("the pod does not talk")
	}
	if len(n.leases.List()) != 2 {
		t.Errorf("%d leases, want 2", len(n.leases.List()))
	}
}

func TestCheckTellsEveryDifference(t *testing.T) {
	n := newNode(t)
	s := n.server(nil)
	p := newPod(t, "shop", "web")
	made := add(t, s, p.request())
	veth, ip := made.GetAttachment().GetHostVeth(), ipOf(made)
	check := func(ips ...string) error {
		_, err := s.Check(t.Context(), &cniv1.CheckRequest{ContainerId: "web", Ifname: "eth0", Netns: p.Path(), ExpectedIps: ips})
		return err
	}
	if err := check(ip + "/23"); err != nil {
		t.Fatalf("nothing differs: %v", err)
	}
	for _, c := range []struct {
		name     string
		sabotage func()
		ips      string
		says     []string
	}{
		{"another address is expected", func() {}, "10.130.0.99/23", []string{"10.130.0.99/23", ip}},
		{"a flow is gone", func() { n.sw.Ofctl(t, "del-flows", "br0", "table=70,ip,nw_dst="+ip) }, ip + "/23", []string{"flows"}},
		{"the pod's route is gone too", func() { p.Run(t, "ip", "route", "del", "default") }, ip + "/23", []string{"flows", "route"}},
		{"and the mark in the switch", func() { n.sw.Vsctl(t, "remove", "Interface", veth, "external_ids", "ip") }, ip + "/23",
			[]string{"flows", "route", "external_ids:ip"}},
		{"and the port", func() { n.sw.Vsctl(t, "del-port", veth) }, ip + "/23", []string{"flows", "route", "port " + veth + " is missing"}},
		{"and the cable", func() { n.ns.Run(t, "ip", "link", "del", veth) }, ip + "/23", []string{"flows", "port " + veth, veth + ": is missing"}},
	} {
		c.sabotage()
		err := check(c.ips)
		t.Log(c.name, "-", err)
		expectReason(t, err, attach.ReasonStateDiffers, c.says...)
	}
	add(t, s, p.request())
	if err := check(ip + "/23"); err != nil {
		t.Errorf("after a repairing ADD: %v", err)
	}
	_, err := s.Check(t.Context(), &cniv1.CheckRequest{ContainerId: "nobody", Ifname: "eth0", Netns: p.Path()})
	expectReason(t, err, attach.ReasonUnknownContainer, "nobody")
}

func TestGarbageCollectionKeepsOnlyWhatIsValid(t *testing.T) {
	n := newNode(t)
	s := n.server(nil)
	keep, drop := newPod(t, "shop", "keep"), newPod(t, "shop", "drop")
	peer := newPod(t, "shop", "peer")
	add(t, s, keep.request())
	add(t, s, drop.request())
	peerIP := ipOf(add(t, s, peer.request()))
	// A port of a sandbox that no lease knows.
	n.sw.Vsctl(t, "add-port", "br0", "stray", "--", "set", "Interface", "stray", "type=internal",
		"external_ids:sandbox=forgotten", "external_ids:ifname=eth0")
	// A port that is not ours at all.
	n.sw.Vsctl(t, "add-port", "br0", "monitor", "--", "set", "Interface", "monitor", "type=internal")
	valid := []*cniv1.AttachmentID{{ContainerId: "keep", Ifname: "eth0"}, {ContainerId: "peer", Ifname: "eth0"}}
	got, err := s.GarbageCollect(t.Context(), &cniv1.GarbageCollectRequest{ValidAttachments: valid})
	if err != nil {
		t.Fatal(err)
	}
	var removed []string
	for _, id := range got.GetRemoved() {
		removed = append(removed, id.GetContainerId())
	}
	if want := "drop forgotten"; strings.Join(removed, " ") != want {
		t.Errorf("removed %v, want %s", removed, want)
	}
	ports := n.sw.Vsctl(t, "list-ports", "br0")
	if strings.Contains(ports, "stray") || !strings.Contains(ports, "monitor") {
		t.Errorf("ports are\n%s\nwant monitor and not stray", ports)
	}
	if !keep.reaches(peerIP) {
		t.Error("a valid pod was hurt")
	}
	n.sw.Vsctl(t, "del-port", "monitor")
	if _, err := s.GarbageCollect(t.Context(), &cniv1.GarbageCollectRequest{}); err != nil {
		t.Fatal(err)
	}
	n.expectNothing(t)
}

// vanishing makes a namespace that ends before the test does.
func vanishing(t *testing.T, use func(*netnstest.Namespace)) {
	t.Helper()
	t.Run("a namespace for a while", func(t *testing.T) { use(netnstest.New(t, "vanishing")) })
}
