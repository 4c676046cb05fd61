package attach

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/rpcerr"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
	"github.com/damask-sdn/damask/services/nodeagent/link"
)

func TestMarksOfAPortTellTheWholeAttachment(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z0-9]{1,20}`)
		var bytes4 [4]byte
		for i := range bytes4 {
			bytes4[i] = rapid.Byte().Draw(t, "byte")
		}
		address := netip.AddrFrom4(bytes4)
		want := &cniv1.Attachment{
			ContainerId: name.Draw(t, "id"), Ifname: name.Draw(t, "ifname"), Netns: "/run/netns/" + name.Draw(t, "netns"),
			PodNamespace: name.Draw(t, "namespace"), PodName: name.Draw(t, "pod"),
			Ips: []string{netip.PrefixFrom(address, rapid.IntRange(8, 30).Draw(t, "bits")).String()},
			Mac: lease.HardwareAddr(address).String(), HostVeth: "veth12345678",
			Ofport: uint32(rapid.IntRange(lease.FirstPort, lease.LastPort).Draw(t, "port")),
		}
		got, err := attachmentOf(portOf(want))
		if err != nil || !proto.Equal(got, want) {
			t.Fatalf("got %v %v, want %v", got, err, want)
		}
	})
}

// TestMACIsWhatTheLinkGets holds two packages to one rule.
func TestMACIsWhatTheLinkGets(t *testing.T) {
	for _, text := range []string{"10.131.2.45", "0.0.0.0", "255.255.255.255"} {
		a := netip.MustParseAddr(text)
		if got, want := lease.HardwareAddr(a), link.PodMAC(a); !bytes.Equal(got, want) {
			t.Errorf("%s: the lease says %s, the interface gets %s", a, got, want)
		}
	}
}

// FuzzMarks gives any marks: what is made of them is an attachment that the lease
// store takes, or an error.
func FuzzMarks(f *testing.F) {
	f.Add("sandbox", "10.130.0.2", "10.130.0.0/23", "shop", "web", "eth0", "/run/netns/x", uint32(3))
	f.Add("", "", "", "", "", "", "", uint32(0))
	f.Add("s", "fd00::1", "fd00::/64", "n", "p", "e", "/", uint32(70000))
	f.Fuzz(func(t *testing.T, sandbox, ip, subnet, namespace, name, ifname, netns string, port uint32) {
		a, err := attachmentOf(bridge.Port{Name: "veth12345678", OFPort: port, ExternalIDs: map[string]string{
			idSandbox: sandbox, idIP: ip, idSubnet: subnet, idNamespace: namespace, idName: name, idIfname: ifname, idNetns: netns,
		}})
		if err != nil {
			return
		}
		if p := prefixOf(a); !p.Addr().Is4() || !p.Contains(gatewayOf(a)) && p.Bits() < 31 {
			t.Errorf("address %v, gateway %v", p, gatewayOf(a))
		}
	})
}

// FuzzAddRequest checks that no request breaks the validation, and that what it
// accepts has the shape that the rest relies on.
func FuzzAddRequest(f *testing.F) {
	f.Add("abc", "/run/netns/x", "eth0", "shop", "web-1", "10.130.0.7", "app", "web", uint32(7))
	f.Add("", "", "", "", "", "", "", "", uint32(0))
	f.Fuzz(func(t *testing.T, container, netns, ifname, namespace, name, ip, key, value string, port uint32) {
		r := &cniv1.AddRequest{
			ContainerId: container, Netns: netns, Ifname: ifname, PodNamespace: namespace, PodName: name,
			RequestedOfport: port, Labels: map[string]string{key: value},
			Ports: []*cniv1.ContainerPort{{Name: value, ContainerPort: port, Protocol: cniv1.Protocol(port % 5)}},
		}
		if ip != "" {
			r.RequestedIps = []string{ip}
		}
		wish, err := wishOf(r)
		if err != nil {
			if rpcerr.Reason(err) == "" {
				t.Errorf("an error without reason: %v", err)
			}
			return
		}
		if container == "" || ifname == "" || len(ifname) > 15 || netns == "" || netns[0] != '/' || namespace == "" || name == "" {
			t.Errorf("%v was accepted", r)
		}
		if p := r.GetPorts()[0]; len(p.GetName()) > 15 || p.GetContainerPort() == 0 || p.GetContainerPort() > 65535 || p.GetProtocol() > cniv1.Protocol_PROTOCOL_SCTP {
			t.Errorf("%v was accepted", p)
		}
		if wish.Address.IsValid() && !wish.Address.Is4() {
			t.Errorf("wish %v was accepted", wish)
		}
	})
}

func TestLockIsPerContainerAndForgotten(t *testing.T) {
	var locks keyLocks
	unlock, err := locks.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := locks.lock(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := locks.lock(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("a lock that is held was given: %v", err)
	}
	unlock()
	other()
	inside := 0
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			unlock, err := locks.lock(context.WithoutCancel(ctx), "a")
			if err != nil {
				t.Error(err)
				return
			}
			inside++ // the race detector sees two at once
			unlock()
		})
	}
	group.Wait()
	if inside != 50 || len(locks.locks) != 0 {
		t.Errorf("%d were inside, %d locks are remembered; want 50 and 0", inside, len(locks.locks))
	}
}
