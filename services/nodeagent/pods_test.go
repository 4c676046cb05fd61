package nodeagent

import (
	"net/netip"
	"testing"

	"google.golang.org/protobuf/proto"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
)

func TestPodsAreRegisteredWithTheirPortsAndTheNodesZone(t *testing.T) {
	store, err := lease.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	for _, id := range []string{"complete", "half-made"} {
		if _, err := store.Allocate(netip.MustParsePrefix("10.130.0.0/23"), &cniv1.Attachment{
			ContainerId: id, Ifname: "eth0", Netns: "/run/netns/" + id, PodNamespace: "shop", PodName: id, Labels: map[string]string{"app": "web"},
			Ports: []*cniv1.ContainerPort{
				{Name: "http", ContainerPort: 8080, Protocol: cniv1.Protocol_PROTOCOL_TCP}, {Name: "dns", ContainerPort: 53, Protocol: cniv1.Protocol_PROTOCOL_UDP},
				{ContainerPort: 9, Protocol: cniv1.Protocol_PROTOCOL_SCTP}, {ContainerPort: 10},
			},
		}, lease.Wish{}); err != nil {
			t.Fatal(err)
		}
	}
	key := lease.Key{ContainerID: "complete", Ifname: "eth0"}
	if err := store.Attached(key); err != nil {
		t.Fatal(err)
	}
	l, _ := store.Lookup(key)
	address := netip.MustParsePrefix(l.Attachment.GetIps()[0]).Addr().String()
	got := (&pods{node: "n1", zone: &zone{name: "west"}, leases: store}).registered()
	want := &tenancyv1.Pod{
		Namespace: "shop", Name: "complete", Node: "n1", Zone: "west", SandboxId: "complete", Ips: []string{address}, Labels: map[string]string{"app": "web"},
		Ports: []*tenancyv1.ContainerPort{
			{Name: "http", ContainerPort: 8080, Protocol: tenancyv1.Protocol_PROTOCOL_TCP}, {Name: "dns", ContainerPort: 53, Protocol: tenancyv1.Protocol_PROTOCOL_UDP},
			{ContainerPort: 9, Protocol: tenancyv1.Protocol_PROTOCOL_SCTP}, {ContainerPort: 10, Protocol: tenancyv1.Protocol_PROTOCOL_TCP},
		},
	}
	if len(got) != 1 || !proto.Equal(got[0], want) {
		t.Errorf("registered %v, want %v", got, want)
	}
}
