package attach_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/attach"
)

// openPorts remembers which sandboxes have their host ports open.
type openPorts struct {
	mu    sync.Mutex
	ports map[string][]*cniv1.HostPort
	fails error
	calls int
}

func (o *openPorts) Open(_ context.Context, a *cniv1.Attachment) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls++
	if o.fails != nil {
		return o.fails
	}
	if o.ports[a.GetContainerId()] = a.GetHostPorts(); len(a.GetHostPorts()) == 0 {
		delete(o.ports, a.GetContainerId())
	}
	return nil
}

func (o *openPorts) Close(_ context.Context, a *cniv1.Attachment) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls++
	delete(o.ports, a.GetContainerId())
	return nil
}

func (o *openPorts) Differences(_ context.Context, a *cniv1.Attachment) ([]string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.EqualFunc(o.ports[a.GetContainerId()], a.GetHostPorts(), func(x, y *cniv1.HostPort) bool { return proto.Equal(x, y) }) {
		return []string{"host ports differ"}, nil
	}
	return nil, nil
}

func TestHostPortsComeAndGoWithTheirPod(t *testing.T) {
	n := newNode(t)
	opened := &openPorts{ports: map[string][]*cniv1.HostPort{}}
	s := n.server(func(p *attach.Parts) { p.HostPorts = opened })
	web, other, plain := newPod(t, "shop", "web"), newPod(t, "shop", "other"), newPod(t, "shop", "plain")
	wish := web.request()
	wish.HostPorts = []*cniv1.HostPort{{HostPort: 8080, ContainerPort: 80}, {HostIp: "192.0.2.1", HostPort: 53, ContainerPort: 53, Protocol: cniv1.Protocol_PROTOCOL_UDP}}
	made := add(t, s, wish)
	if got := opened.ports["web"]; len(got) != 2 {
		t.Errorf("open: %v", got)
	}
	// Without host ports a pod has nothing to do with them.
	before := opened.calls
	add(t, s, plain.request())
	if _, err := s.Delete(t.Context(), plain.deletion()); err != nil {
		t.Fatal(err)
	}
	if opened.calls != before {
		t.Error("a pod without host ports asked for some")
	}
	conflict := other.request()
	conflict.HostPorts = []*cniv1.HostPort{{HostIp: "192.0.2.7", HostPort: 8080, ContainerPort: 80}}
	_, err := s.Add(t.Context(), conflict)
	expectReason(t, err, attach.ReasonHostPortTaken, "host port 8080 of TCP", "pod shop/web")
	check := &cniv1.CheckRequest{ContainerId: "web", Ifname: "eth0", Netns: web.Path(), ExpectedIps: made.GetAttachment().GetIps()}
	if _, err := s.Check(t.Context(), check); err != nil {
		t.Error(err)
	}
	opened.ports["web"] = nil
	_, err = s.Check(t.Context(), check)
	expectReason(t, err, attach.ReasonStateDiffers, "host ports differ")
	// A second ADD with others.
	wish.HostPorts = wish.HostPorts[:1]
	add(t, s, wish)
	if got := opened.ports["web"]; len(got) != 1 {
		t.Errorf("open after the second ADD: %v", got)
	}
	wish.HostPorts = nil
	add(t, s, wish)
	if got := opened.ports["web"]; len(got) != 0 {
		t.Errorf("open after the third ADD: %v", got)
	}
	add(t, s, conflict)
	if _, err := s.GarbageCollect(t.Context(), &cniv1.GarbageCollectRequest{}); err != nil {
		t.Fatal(err)
	}
	if len(opened.ports) != 0 {
		t.Errorf("open at the end: %v", opened.ports)
	}
	n.expectNothing(t)
}

func TestPodWhoseHostPortsCannotBeOpenedIsUndone(t *testing.T) {
	n := newNode(t)
	opened := &openPorts{ports: map[string][]*cniv1.HostPort{}, fails: errors.New("no rules today")}
	s := n.server(func(p *attach.Parts) { p.HostPorts = opened })
	r := newPod(t, "shop", "web").request()
	r.HostPorts = []*cniv1.HostPort{{HostPort: 8080, ContainerPort: 80}}
	_, err := s.Add(t.Context(), r)
	expectReason(t, err, attach.ReasonTryAgainLater, "no rules today")
	n.expectNothing(t)
}

func TestAdoptedPodKeepsItsHostPorts(t *testing.T) {
	n := newNode(t)
	opened := &openPorts{ports: map[string][]*cniv1.HostPort{}}
	s := n.server(func(p *attach.Parts) { p.HostPorts = opened })
	r := newPod(t, "shop", "web").request()
	r.HostPorts = []*cniv1.HostPort{
		{HostPort: 8080, ContainerPort: 80, Protocol: cniv1.Protocol_PROTOCOL_TCP},
		{HostIp: "192.0.2.1", HostPort: 53, ContainerPort: 5353, Protocol: cniv1.Protocol_PROTOCOL_SCTP},
	}
	want := proto.CloneOf(add(t, s, r).GetAttachment())
	want.Labels = nil // only the lease store had them
	if err := os.RemoveAll(n.place.Leases); err != nil {
		t.Fatal(err)
	}
	n.restart(t)
	if got, _ := n.restore(t); !proto.Equal(got["web"], want) {
		t.Errorf("restored %v, want %v", got["web"], want)
	}
}

func TestWrongHostPortsAreAllNamed(t *testing.T) {
	n := newNode(t)
	r := newPod(t, "shop", "web").request()
	r.HostPorts = []*cniv1.HostPort{
		{HostPort: 0, ContainerPort: 70000, Protocol: 9, HostIp: "::1"},
		{HostPort: 80, ContainerPort: 80}, {HostPort: 80, ContainerPort: 81, HostIp: "192.0.2.1"}, {HostPort: 81, ContainerPort: 80, HostIp: "224.0.0.1"},
	}
	_, err := n.server(nil).Add(t.Context(), r)
	expectReason(t, err, attach.ReasonInvalidConfig, "host_ports[0].host_port: 0", "host_ports[0].container_port: 70000", "host_ports[0].protocol: 9",
		`host_ports[0].host_ip: "::1"`, "host_ports[2]: is the same port as host_ports[1]", `host_ports[3].host_ip: "224.0.0.1"`)
	r.HostPorts = nil
	for i := range 1001 {
		r.HostPorts = append(r.HostPorts, &cniv1.HostPort{HostPort: uint32(i + 1), ContainerPort: 80})
	}
	_, err = n.server(nil).Add(t.Context(), r)
	expectReason(t, err, attach.ReasonInvalidConfig, fmt.Sprintf("host_ports: %d ports", len(r.GetHostPorts())))
}
