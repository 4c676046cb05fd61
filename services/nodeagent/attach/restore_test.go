package attach_test

import (
	"os"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/netnstest"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
)

// restore is the start of an agent: what lives here, then a comparison of flows.
// It answers the pods by sandbox, and how many flows were not as they should be.
func (n *node) restore(t *testing.T) (map[string]*cniv1.Attachment, int) {
	t.Helper()
	list, err := n.server(nil).Restore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	diff, err := n.programmer.compare(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	pods := map[string]*cniv1.Attachment{}
	for _, a := range list {
		pods[a.GetContainerId()] = a
	}
	return pods, len(diff.Added) + len(diff.Modified) + len(diff.Deleted)
}

func TestRestoreOnAnUnchangedNodeChangesNothing(t *testing.T) {
	n := newNode(t)
	s := n.server(nil)
	first, second := newPod(t, "shop", "first"), newPod(t, "shop", "second")
	a, b := add(t, s, first.request()), add(t, s, second.request())
	rows := n.sw.Vsctl(t, "--columns=_uuid,name,ofport,external_ids", "list", "Interface")
	n.restart(t)
	got, flows := n.restore(t)
	if flows != 0 {
		t.Errorf("%d flows were changed", flows)
	}
	if len(got) != 2 || !proto.Equal(got["first"], a.GetAttachment()) || !proto.Equal(got["second"], b.GetAttachment()) {
		t.Errorf("restored %v, want %v and %v", got, a.GetAttachment(), b.GetAttachment())
	}
	if now := n.sw.Vsctl(t, "--columns=_uuid,name,ofport,external_ids", "list", "Interface"); now != rows {
		t.Errorf("the switch's rows were\n%s\nand are\n%s", rows, now)
	}
	if !first.reaches(ipOf(b)) {
		t.Error("the pods do not talk any more")
	}
}

func TestRestoreTakesAwayWhatIsHalfMade(t *testing.T) {
	n := newNode(t)
	// Killed after the address was allocated.
	if _, err := n.leases.Allocate(plan.Subnet, &cniv1.Attachment{ContainerId: "early", Ifname: "eth0", Netns: "/x"}, lease.Wish{}); err != nil {
		t.Fatal(err)
	}
	// Killed when all was made but the answer, and in the middle of DEL.
	for _, id := range []string{"late", "leaving"} {
		add(t, n.server(nil), newPod(t, "shop", id).request())
		if err := n.leases.Detaching(lease.Key{ContainerID: id, Ifname: "eth0"}); err != nil {
			t.Fatal(err)
		}
	}
	n.restart(t)
	if got, _ := n.restore(t); len(got) != 0 {
		t.Errorf("restored %v, want nobody", got)
	}
	n.expectNothing(t)
}

func TestRestoreGivesPodsTheirPortsBack(t *testing.T) {
	n := newNode(t)
	s := n.server(nil)
	p, peer := newPod(t, "shop", "web"), newPod(t, "shop", "peer")
	made, other := add(t, s, p.request()), add(t, s, peer.request())
	n.sw.Vsctl(t, "del-port", made.GetAttachment().GetHostVeth())
	n.restart(t)
	got, _ := n.restore(t)
	if !proto.Equal(got["web"], made.GetAttachment()) {
		t.Errorf("restored %v, want %v", got["web"], made.GetAttachment())
	}
	n.sw.Settle(t)
	if !p.reaches(ipOf(other)) {
		t.Error("the pod does not talk after its port came back")
	}
}

func TestRestoreAdoptsPodsWhenTheLeasesAreLost(t *testing.T) {
	n := newNode(t)
	s := n.server(nil)
	p, peer := newPod(t, "shop", "web"), newPod(t, "shop", "peer")
	made, other := add(t, s, p.request()), add(t, s, peer.request())
	vanishing(t, func(ns *netnstest.Namespace) {
		r := p.request()
		r.ContainerId, r.Netns = "dead", ns.Path()
		add(t, s, r)
	})
	n.sw.Vsctl(t, "add-port", "br0", "odd", "--", "set", "Interface", "odd", "type=internal", "external_ids:sandbox=odd")
	if err := os.RemoveAll(n.place.Leases); err != nil {
		t.Fatal(err)
	}
	n.restart(t)
	got, _ := n.restore(t)
	want := proto.CloneOf(made.GetAttachment())
	want.Labels = nil // only the lease store had them
	if len(got) != 2 || !proto.Equal(got["web"], want) {
		t.Errorf("restored %v, want web as %v, and peer", got, want)
	}
	third := add(t, n.server(nil), newPod(t, "shop", "third").request())
	if ipOf(third) == ipOf(made) || ipOf(third) == ipOf(other) {
		t.Errorf("%s was given twice", ipOf(third))
	}
	if !p.reaches(ipOf(other)) {
		t.Error("the pods do not talk any more")
	}
	if _, err := n.server(nil).GarbageCollect(t.Context(), &cniv1.GarbageCollectRequest{}); err != nil {
		t.Fatal(err)
	}
	n.expectNothing(t)
}

func TestRestoreForgetsPodsFromBeforeAReboot(t *testing.T) {
	n := newNode(t)
	s := n.server(nil)
	vanishing(t, func(ns *netnstest.Namespace) {
		r := newPod(t, "shop", "web").request()
		r.Netns = ns.Path()
		add(t, s, r)
	})
	// A reboot: ovs-vswitchd starts with the old rows, and finds no device.
	n.sw.StopVswitchd()
	n.sw.StartVswitchd(t)
	n.restart(t)
	if got, _ := n.restore(t); len(got) != 0 {
		t.Errorf("restored %v, want nobody", got)
	}
	n.expectNothing(t)
}
