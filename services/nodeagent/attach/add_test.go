package attach_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/rpcerr"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/attach"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/link"
)

func answers(socket string) bool {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func TestPodTalksWhenAddAnswers(t *testing.T) {
	n := newNode(t)
	s := n.server(nil)
	web, db, bank := newPod(t, "shop", "web"), newPod(t, "shop", "db"), newPod(t, "bank", "till")
	first := add(t, s, web.request())
	second := add(t, s, db.request())
	if !db.reaches(ipOf(first)) {
		t.Error("the first ping after ADD was lost")
	}
	if !web.reaches(ipOf(second)) {
		t.Error("the older pod does not reach the newer")
	}
	third := add(t, s, bank.request())
	if bank.reaches(ipOf(first)) || web.reaches(ipOf(third)) {
		t.Error("another tenant is reached")
	}
	for _, p := range []*pod{web, db, bank} {
		if _, err := s.Delete(t.Context(), p.deletion()); err != nil {
			t.Fatal(err)
		}
	}
	n.expectNothing(t)
}

func TestAnswerIsAsObserved(t *testing.T) {
	n := newNode(t)
	p := newPod(t, "shop", "web")
	r := p.request()
	r.RequestedIps, r.RequestedOfport = []string{"10.130.1.45"}, 77
	r.Ports = []*cniv1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: cniv1.Protocol_PROTOCOL_TCP}}
	got := add(t, n.server(nil), r)
	want := &cniv1.AddResponse{
		Attachment: &cniv1.Attachment{
			ContainerId: "web", Ifname: "eth0", Netns: p.Path(), PodNamespace: "shop", PodName: "web",
			Ips: []string{"10.130.1.45/23"}, Mac: "0a:58:0a:82:01:2d", HostVeth: got.GetAttachment().GetHostVeth(),
			Ofport: 77, Labels: map[string]string{"app": "web"}, Ports: r.GetPorts(),
		},
		Gateways: []string{"10.130.0.1"},
		Routes: []*cniv1.Route{
			{Destination: "0.0.0.0/0", Gateway: "10.130.0.1"},
			{Destination: "10.128.0.0/14"},
			{Destination: "224.0.0.0/4"},
		},
		Mtu: mtu, HostMac: got.GetHostMac(),
	}
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	r.Ports, want.Attachment.Ports = nil, nil
	if again := add(t, n.server(nil), r); !proto.Equal(again, want) {
		t.Errorf("again, without ports\ngot  %v\nwant %v", again, want)
	}
	expectPodLinks(t, n, p, got.GetAttachment().GetHostVeth(), got.GetHostMac())
	expectPodRoutes(t, p, "10.130.1.45")
	if ids := n.sw.Vsctl(t, "get", "Interface", got.GetAttachment().GetHostVeth(), "external_ids"); !strings.Contains(ids, "sandbox=web") ||
		!strings.Contains(ids, `ip="10.130.1.45"`) || !strings.Contains(ids, "ns=shop") {
		t.Errorf("external_ids are %s", ids)
	}
}

// gate is a programmer that looks before it programs.
type gate struct {
	*programmer
	before func(*cniv1.Attachment)
}

func (g gate) Program(ctx context.Context, a *cniv1.Attachment) error {
	g.before(a)
	return g.programmer.Program(ctx, a)
}

func TestPodIsClosedUntilItsFlowsAreIn(t *testing.T) {
	n := newNode(t)
	old, fresh := newPod(t, "shop", "old"), newPod(t, "shop", "fresh")
	oldIP := ipOf(add(t, n.server(nil), old.request()))
	s := n.server(func(p *attach.Parts) {
		p.Programmer = gate{n.programmer, func(a *cniv1.Attachment) {
			if out := fresh.Run(t, "ip", "-o", "link", "show", "eth0"); !strings.Contains(out, "state UP") {
				t.Errorf("the test must look at a pod whose cable is up: %s", out)
			}
			if fresh.reaches(oldIP) {
				t.Error("the new pod talks before its flows are in")
			}
			if old.reaches(strings.TrimSuffix(a.GetIps()[0], "/23")) {
				t.Error("the new pod is reached before its flows are in")
			}
		}}
	})
	add(t, s, fresh.request())
	n.sw.Settle(t)
	// Nobody has answered its ARP so far, and the kernel asks but once a second, three times.
	fresh.Run(t, "ip", "neigh", "flush", "dev", "eth0", "nud", "all")
	if !fresh.reaches(oldIP) {
		t.Error("the new pod does not talk after ADD")
	}
}

func TestSecondAddRepairsAndAnswersTheSame(t *testing.T) {
	n := newNode(t)
	s := n.server(nil)
	p, peer := newPod(t, "shop", "web"), newPod(t, "shop", "peer")
	peerIP := ipOf(add(t, s, peer.request()))
	first := add(t, s, p.request())
	veth := first.GetAttachment().GetHostVeth()
	for name, sabotage := range map[string]func(){
		"nothing":          func() {},
		"a route is gone":  func() { p.Run(t, "ip", "route", "del", "default") },
		"the flows are":    func() { n.sw.Ofctl(t, "del-flows", "br0", "table=70,ip,nw_dst="+ipOf(first)) },
		"the port is gone": func() { n.sw.Vsctl(t, "del-port", veth) },
		"the veth is down": func() { n.ns.Run(t, "ip", "link", "set", veth, "down") },
	} {
		sabotage()
		if again := add(t, s, p.request()); !proto.Equal(first, again) {
			t.Errorf("%s: got  %v\nwant %v", name, again, first)
		}
		n.sw.Settle(t)
		if !p.reaches(peerIP) {
			t.Errorf("%s: the pod does not talk after the second ADD", name)
		}
	}
	n.ns.Run(t, "ip", "link", "del", veth)
	again := add(t, s, p.request())
	if again.GetAttachment().GetHostVeth() == veth {
		t.Error("a new cable has the old one's name: the switch may take it for that")
	}
	if ipOf(again) != ipOf(first) || again.GetAttachment().GetOfport() != first.GetAttachment().GetOfport() {
		t.Errorf("after the cable was lost: got %v, want the address and port of %v", again, first)
	}
	n.sw.Settle(t)
	if !p.reaches(peerIP) {
		t.Error("the pod does not talk after its cable was made anew")
	}
}

// patience is tenancy that lets one namespace wait.
type patience struct {
	directory
	slow    string
	arrived chan struct{}
	goOn    chan struct{}
}

func (p patience) VNID(ctx context.Context, namespace string) (uint32, error) {
	if namespace == p.slow {
		close(p.arrived)
		select {
		case <-p.goOn:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return p.directory.VNID(ctx, namespace)
}

func TestPodsDoNotWaitForOneAnother(t *testing.T) {
	n := newNode(t)
	wait := patience{slow: "bank", arrived: make(chan struct{}), goOn: make(chan struct{})}
	s := n.server(func(p *attach.Parts) { p.Names = wait })
	slow, quick := newPod(t, "bank", "slow"), newPod(t, "shop", "quick")
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := s.Add(t.Context(), slow.request()); err != nil {
			t.Error(err)
		}
	})
	<-wait.arrived
	add(t, s, quick.request()) // would hang if it waited for the other
	if _, err := s.Delete(t.Context(), quick.deletion()); err != nil {
		t.Error(err)
	}
	// A command on the same container does wait, as long as it is given time.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Delete(ctx, slow.deletion())
	expectReason(t, err, attach.ReasonTryAgainLater, "another command on this container")
	close(wait.goOn)
	group.Wait()
}

// The parts below fail at one thing, as chosen when they are made.
type badPorts struct{ *bridge.Bridge }

func (b badPorts) AddPort(context.Context, bridge.Port) (uint32, error) {
	return 0, errors.New("ovs-vswitchd is not well")
}

type badProgrammer struct{ *programmer }

func (b badProgrammer) Program(ctx context.Context, a *cniv1.Attachment) error {
	return errors.Join(b.programmer.Program(ctx, a), errors.New("the switch went away after it took the flows"))
}

type badLinks struct{ *link.Links }

func (badLinks) EnsurePod(context.Context, link.Pod) (link.PodLink, error) {
	return link.PodLink{}, errors.New("the kernel has no memory")
}

func (badLinks) EnsurePodWhile(context.Context, link.Pod, func() error) (link.PodLink, error) {
	return link.PodLink{}, errors.New("the kernel has no memory")
}

func TestFailedAddLeavesNothing(t *testing.T) {
	n := newNode(t)
	p := newPod(t, "shop", "web")
	for name, c := range map[string]struct {
		change  func(*attach.Parts)
		request func(*cniv1.AddRequest)
		reason  string
		says    string
	}{
		"the namespace is unknown": {
			request: func(r *cniv1.AddRequest) { r.PodNamespace = "nobody" },
			reason:  attach.ReasonUnknownNamespace, says: "nobody",
		},
		"the veth cannot be made": {
			change: func(p *attach.Parts) { p.Links = badLinks{n.links} },
			reason: attach.ReasonTryAgainLater, says: "no memory",
		},
		"the port is refused": {
			change: func(p *attach.Parts) { p.Ports = badPorts{n.bridge} },
			reason: attach.ReasonTryAgainLater, says: "not well",
		},
		"the flows are refused": {
			change: func(p *attach.Parts) { p.Programmer = badProgrammer{n.programmer} },
			reason: attach.ReasonTryAgainLater, says: "went away",
		},
		"the interface exists in the pod": {
			request: func(r *cniv1.AddRequest) { r.Ifname = "lo" },
			reason:  attach.ReasonTryAgainLater, says: "lo exists",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := p.request()
			if c.request != nil {
				c.request(r)
			}
			_, err := n.server(c.change).Add(t.Context(), r)
			expectReason(t, err, c.reason, c.says)
			n.expectNothing(t)
		})
	}
	t.Run("and the next ADD works", func(t *testing.T) { add(t, n.server(nil), p.request()) })
}

func TestWishesThatCannotBeGiven(t *testing.T) {
	n := newNode(t)
	s := n.server(nil)
	first := add(t, s, newPod(t, "shop", "first").request())
	n.sw.Vsctl(t, "add-port", "br0", "foreign", "--", "set", "Interface", "foreign", "type=internal", "ofport_request=500")
	p := newPod(t, "shop", "second")
	for name, c := range map[string]struct {
		ip     string
		port   uint32
		reason string
	}{
		"address of another pod":       {ip: ipOf(first), reason: attach.ReasonAddressTaken},
		"address of another subnet":    {ip: "10.131.0.7", reason: attach.ReasonInvalidConfig},
		"the gateway's address":        {ip: "10.130.0.1", reason: attach.ReasonInvalidConfig},
		"port of another pod":          {port: first.GetAttachment().GetOfport(), reason: attach.ReasonPortTaken},
		"port that is not a pod's":     {port: 500, reason: attach.ReasonPortTaken},
		"port of tun0":                 {port: 2, reason: attach.ReasonInvalidConfig},
		"something that is no address": {ip: "web", reason: attach.ReasonInvalidConfig},
	} {
		r := p.request()
		r.RequestedOfport = c.port
		if c.ip != "" {
			r.RequestedIps = []string{c.ip}
		}
		_, err := s.Add(t.Context(), r)
		if got := rpcerr.Reason(err); got != c.reason {
			t.Errorf("%s: reason is %q, want %q (%v)", name, got, c.reason, err)
		}
	}
	if len(n.leases.List()) != 1 {
		t.Errorf("%d leases, want 1: refusals left some", len(n.leases.List()))
	}
}

func TestPortThatOnlyTheSwitchKnowsIsAvoided(t *testing.T) {
	n := newNode(t)
	n.sw.Vsctl(t, "add-port", "br0", "foreign", "--", "set", "Interface", "foreign", "type=internal", "ofport_request=3")
	p, peer := newPod(t, "shop", "web"), newPod(t, "shop", "peer")
	s := n.server(nil)
	first, second := add(t, s, p.request()), add(t, s, peer.request())
	if a, b := first.GetAttachment().GetOfport(), second.GetAttachment().GetOfport(); a == 3 || b == 3 || a == b {
		t.Errorf("ports are %d and %d, want two others than 3", a, b)
	}
	if !p.reaches(ipOf(second)) {
		t.Error("the pods do not talk")
	}
}

func TestWrongRequestsNameEveryFault(t *testing.T) {
	n := newNode(t)
	_, err := n.server(nil).Add(t.Context(), &cniv1.AddRequest{
		ContainerId: "no/slash", Netns: "relative", Ifname: "much-too-long-a-name", PodNamespace: "Upper", PodName: "a..b", PodUid: "no space",
		RequestedIps: []string{"fd00::1"}, RequestedOfport: 70000, Labels: map[string]string{"-bad": "x", "ok": "not ok"},
		Ports: []*cniv1.ContainerPort{
			{ContainerPort: 1}, {Name: "8080", ContainerPort: 65536, Protocol: 9}, {Name: "a--b", ContainerPort: 1}, {Name: "http"}, {Name: "longer-than-fifteen", ContainerPort: 1},
		},
	})
	expectReason(t, err, attach.ReasonInvalidEnvironment, "container_id", "netns", "ifname", "pod_namespace", "pod_name", "pod_uid",
		"requested_ips", "requested_ofport", `"-bad"`, `"not ok"`,
		"ports[1].name", "ports[1].container_port: 65536", "ports[1].protocol: 9", "ports[2].name", "ports[3].container_port: 0", "ports[4].name")
	r := newPod(t, "shop", "web").request()
	r.Netns = "/etc/hostname"
	_, err = n.server(nil).Add(t.Context(), r)
	expectReason(t, err, attach.ReasonInvalidEnvironment, "/etc/hostname")
	r.Netns = "/run/netns/nobody"
	_, err = n.server(nil).Add(t.Context(), r)
	expectReason(t, err, attach.ReasonInvalidEnvironment, "/run/netns/nobody")
	r.Netns, r.Ports = "/run/netns/web", make([]*cniv1.ContainerPort, 1001)
	_, err = n.server(nil).Add(t.Context(), r)
	expectReason(t, err, attach.ReasonInvalidConfig, "ports: 1001 ports")
	n.expectNothing(t)
}

func TestNodeThatIsNotReadySaysWhatIsMissing(t *testing.T) {
	n := newNode(t)
	s := n.server(func(p *attach.Parts) {
		p.Site = site{missing: []string{"ipam gave no subnet yet", "ovs-vswitchd is away"}}
	})
	_, err := s.Add(t.Context(), newPod(t, "shop", "web").request())
	expectReason(t, err, attach.ReasonTryAgainLater, "ipam gave no subnet yet", "ovs-vswitchd is away")
	_, err = s.Status(t.Context(), &cniv1.StatusRequest{})
	expectReason(t, err, attach.ReasonNodeNotReady, "ipam gave no subnet yet", "ovs-vswitchd is away")
	if _, err := n.server(nil).Status(t.Context(), &cniv1.StatusRequest{}); err != nil {
		t.Errorf("ready node: %v", err)
	}
}

func TestFullSubnet(t *testing.T) {
	n := newNode(t)
	s := n.server(func(p *attach.Parts) { p.Site = site{subnet: netip.MustParsePrefix("10.130.0.0/30")} })
	only, late := newPod(t, "shop", "only"), newPod(t, "shop", "late")
	add(t, s, only.request())
	_, err := s.Add(t.Context(), late.request())
	expectReason(t, err, attach.ReasonNoAddress, "10.130.0.0/30")
	if _, err := s.Delete(t.Context(), only.deletion()); err != nil {
		t.Fatal(err)
	}
	add(t, s, late.request())
}

func TestPodsOfTheOldSubnetStayAsTheyAre(t *testing.T) {
	n := newNode(t)
	p := newPod(t, "shop", "web")
	first := add(t, n.server(nil), p.request())
	moved := n.server(func(p *attach.Parts) { p.Site = site{subnet: netip.MustParsePrefix("10.131.4.0/23")} })
	if again := add(t, moved, p.request()); !proto.Equal(first, again) {
		t.Errorf("the old pod: got  %v\nwant %v", again, first)
	}
	fresh := add(t, moved, newPod(t, "shop", "fresh").request())
	if got := fresh.GetAttachment().GetIps()[0]; got != "10.131.4.2/23" || fresh.GetGateways()[0] != "10.131.4.1" {
		t.Errorf("a new pod got %s and gateway %s, want the new subnet's", got, fresh.GetGateways()[0])
	}
	if _, err := moved.Delete(t.Context(), p.deletion()); err != nil {
		t.Fatal(err)
	}
}
