package attach_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/attach"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
)

// notes are what the container runtime noted, by sandbox.
type notes map[string]*cniv1.Attachment

func (n notes) Pod(sandbox string, _ netip.Addr) (*cniv1.Attachment, error) {
	if a, ok := n[sandbox]; ok {
		return &cniv1.Attachment{ContainerId: sandbox, Ifname: a.GetIfname(), Netns: a.GetNetns(), PodNamespace: a.GetPodNamespace(), PodName: a.GetPodName()}, nil
	}
	return nil, errors.New("nothing is noted of " + sandbox)
}

// disown makes pods those of a node that OpenShift SDN has: its marks, no requests for
// numbers, and no leases.
func (n *node) disown(t *testing.T, made ...*cniv1.AddResponse) notes {
	t.Helper()
	known := notes{}
	for _, m := range made {
		a := m.GetAttachment()
		known[a.GetContainerId()] = a
		n.sw.Vsctl(t, "clear", "Interface", a.GetHostVeth(), "external_ids", "--",
			"set", "Interface", a.GetHostVeth(), "external_ids:sandbox="+a.GetContainerId(), "external_ids:ip="+ipOf(m), "--",
			"clear", "Interface", a.GetHostVeth(), "ofport_request")
		if err := n.leases.Release(lease.KeyOf(a)); err != nil {
			t.Fatal(err)
		}
	}
	return known
}

func TestPodsOfTheAncestorBecomeOursAsTheyAre(t *testing.T) {
	n := newNode(t)
	s := n.server(nil)
	p, peer := newPod(t, "shop", "web"), newPod(t, "shop", "peer")
	made, other := add(t, s, p.request()), add(t, s, peer.request())
	known := n.disown(t, made, other)
	inherits := func(parts *attach.Parts) { parts.Predecessor = known }
	s = n.server(inherits)
	// A runtime that collects garbage knows their sandboxes, and they have no leases yet.
	if _, err := s.GarbageCollect(t.Context(), &cniv1.GarbageCollectRequest{}); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"taken over", "taken over again, when the first start ended early"} {
		s = n.server(inherits)
		if err := s.Recognise(t.Context()); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		list, err := s.Restore(t.Context())
		if err != nil || len(list) != 2 || len(s.Inherited()) != 2 {
			t.Fatalf("%s: restored %v, inherited %v, %v", when, list, s.Inherited(), err)
		}
		for _, got := range list {
			want := map[string]*cniv1.AddResponse{"web": made, "peer": other}[got.GetContainerId()].GetAttachment()
			if got.GetIps()[0] != want.GetIps()[0] || got.GetOfport() != want.GetOfport() || got.GetHostVeth() != want.GetHostVeth() ||
				got.GetMac() != want.GetMac() || got.GetPodName() != want.GetPodName() {
				t.Errorf("%s: %v, was %v", when, got, want)
			}
			if when == "taken over" { // as if it had got to the leases and no further
				n.sw.Vsctl(t, "clear", "Interface", got.GetHostVeth(), "external_ids", "--", "set", "Interface", got.GetHostVeth(),
					"external_ids:sandbox="+got.GetContainerId(), "external_ids:ip="+netip.MustParsePrefix(got.GetIps()[0]).Addr().String())
			}
		}
	}
	if diff, err := n.programmer.compare(t.Context(), s.Inherited()); err != nil || !diff.Empty() {
		t.Errorf("flows differed: %v, %v", diff, err)
	}
	if !p.reaches(ipOf(other)) {
		t.Error("the pods do not talk any more")
	}
	for _, q := range []*pod{p, peer} {
		if _, err := s.Delete(t.Context(), q.deletion()); err != nil {
			t.Fatal(err)
		}
	}
	n.expectNothing(t)
}

func TestANodeWithAPodThatNobodyKnowsStaysAsItIs(t *testing.T) {
	n := newNode(t)
	s := n.server(nil)
	web, odd, far := newPod(t, "shop", "web"), newPod(t, "shop", "odd"), newPod(t, "shop", "far")
	made := []*cniv1.AddResponse{add(t, s, web.request()), add(t, s, odd.request()), add(t, s, far.request())}
	known := n.disown(t, made...)
	delete(known, "odd")
	n.sw.Vsctl(t, "set", "Interface", made[2].GetAttachment().GetHostVeth(), "external_ids:ip=10.131.0.9")
	rows := n.sw.Vsctl(t, "--columns=_uuid,name,ofport,external_ids", "list", "Interface")
	s = n.server(func(parts *attach.Parts) { parts.Predecessor = known })
	err := s.Recognise(t.Context())
	for _, says := range []string{"sandbox odd: nothing is noted", "sandbox far: 10.131.0.9 is not an address of this node's subnet"} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("the error does not say %q: %v", says, err)
		}
	}
	if _, err := s.Restore(t.Context()); err == nil {
		t.Error("pods were restored, one of whom nobody knows")
	}
	if now := n.sw.Vsctl(t, "--columns=_uuid,name,ofport,external_ids", "list", "Interface"); now != rows {
		t.Errorf("the switch's rows were\n%s\nand are\n%s", rows, now)
	}
}
