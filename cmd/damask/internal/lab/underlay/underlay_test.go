package underlay_test

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/labtest"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/underlay"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// in runs a command in a named namespace.
func in(t *testing.T, name string, args ...string) string {
	t.Helper()
	var out []byte
	err := enter.Do(enter.Namespaces{Net: enter.NetPath(name)}, func() error {
		var err error
		out, err = exec.Command(args[0], args[1:]...).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestMachinesOnTheUnderlayReachOneAnother(t *testing.T) {
	prefix := netip.MustParsePrefix("192.168.7.0/24")
	network, err := underlay.New(prefix, false)
	if err != nil {
		t.Fatal(err)
	}
	hosts := map[string]netip.Addr{"one": netip.MustParseAddr("192.168.7.1"), "two": netip.MustParseAddr("192.168.7.2")}
	for name, addr := range hosts {
		if err := enter.NewNet("", name); err != nil {
			t.Fatal(err)
		}
		path := enter.NetPath(name)
		if err := network.Plug(path, "p"+name, addr); err != nil {
			t.Fatal(err)
		}
		if err := network.Configure(path, underlay.Interface, []netip.Addr{addr}, hosts["one"]); err != nil {
			t.Fatal(err)
		}
	}
	in(t, "one", "ping", "-c1", "-w5", "192.168.7.2")
	// A full frame with the headers of IPv4 and ICMP, not to be cut.
	in(t, "one", "ping", "-c1", "-w5", "-M", "do", "-s", "1472", "192.168.7.2")

	t.Run("frames carry their checksums", func(t *testing.T) {
		if got := in(t, "one", "ethtool", "-k", "eth0"); !strings.Contains(got, "tx-checksumming: off") || !strings.Contains(got, "tx-tcp-segmentation: off") {
			t.Errorf("transmit offload is on:\n%s", got)
		}
	})
	t.Run("routes are exactly the wanted ones", func(t *testing.T) {
		by := func(to, via string) underlay.Route {
			return underlay.Route{To: netip.MustParsePrefix(to), Via: netip.MustParseAddr(via)}
		}
		path := enter.NetPath("one")
		in(t, "one", "ip", "route", "add", "10.9.0.0/16", "via", "192.168.7.2")
		for _, want := range [][]underlay.Route{
			{by("10.128.0.0/23", "192.168.7.2"), by("10.129.0.0/23", "192.168.7.3")},
			{by("10.129.0.0/23", "192.168.7.2")},
			nil,
		} {
			if err := underlay.SetRoutes(path, want); err != nil {
				t.Fatal(err)
			}
			got := in(t, "one", "ip", "route")
			if n := strings.Count(got, "proto 218"); n != len(want) {
				t.Errorf("got %d routes, want %d:\n%s", n, len(want), got)
			}
			for _, r := range want {
				if !strings.Contains(got, r.To.String()+" via "+r.Via.String()+" ") {
					t.Errorf("no route to %s via %s:\n%s", r.To, r.Via, got)
				}
			}
			if !strings.Contains(got, "10.9.0.0/16") {
				t.Errorf("a route of somebody else is gone:\n%s", got)
			}
		}
	})
	t.Run("a cable that is plugged in again replaces the old one", func(t *testing.T) {
		if err := enter.NewNet("", "three"); err != nil {
			t.Fatal(err)
		}
		if err := network.Plug(enter.NetPath("three"), "ptwo", hosts["two"]); err != nil {
			t.Fatal(err)
		}
		if err := network.Configure(enter.NetPath("three"), underlay.Interface, []netip.Addr{hosts["two"]}, netip.Addr{}); err != nil {
			t.Fatal(err)
		}
		in(t, "one", "ping", "-c1", "-w5", "192.168.7.2")
	})
	t.Run("an announcement is heard", func(t *testing.T) {
		in(t, "one", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/eth0/arp_accept")
		in(t, "one", "ip", "neigh", "flush", "all")
		if err := underlay.Announce(enter.NetPath("three"), underlay.Interface, hosts["two"]); err != nil {
			t.Fatal(err)
		}
		err := underlay.At(enter.NetPath("one"), func(h *netlink.Handle) error {
			neighbours, err := h.NeighList(0, netlink.FAMILY_V4)
			for _, n := range neighbours {
				if n.IP.String() == "192.168.7.2" && n.HardwareAddr.String() == underlay.MAC(hosts["two"]).String() {
					return nil
				}
			}
			t.Errorf("got neighbours %v", neighbours)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
