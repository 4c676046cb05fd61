package link

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/netnstest"
)

// node is a namespace that plays the node, with Links on it.
type node struct {
	*Links
	ns *netnstest.Namespace
}

func newNode(t testing.TB, userspace bool) *node {
	t.Helper()
	ns := netnstest.New(t, "node")
	l, err := Open(Config{Namespace: ns.Path(), Userspace: userspace})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &node{Links: l, ns: ns}
}

// newGateway is a node with a device named tun0.
func newGateway(t testing.TB, userspace bool) *node {
	t.Helper()
	n := newNode(t, userspace)
	n.ns.Run(t, "ip", "tuntap", "add", "tun0", "mode", "tap")
	n.ns.Run(t, "ip", "tuntap", "add", "br0", "mode", "tap")
	return n
}

func testGateway() Gateway {
	return Gateway{
		Device: "tun0", Bridge: "br0", MTU: 1450,
		Address:         netip.MustParsePrefix("10.130.0.1/23"),
		ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")},
		ServiceNetworks: []netip.Prefix{netip.MustParsePrefix("172.30.0.0/16")},
	}
}

func (n *node) ensureGateway(t testing.TB, g Gateway) []string {
	t.Helper()
	repairs, err := n.EnsureGateway(t.Context(), g)
	if err != nil {
		t.Fatalf("EnsureGateway: %v (after %q)", err, repairs)
	}
	return repairs
}

// lines splits a command's output into trimmed lines.
func lines(text string) []string {
	var all []string
	for _, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, strings.Join(strings.Fields(line), " "))
		}
	}
	return all
}

func TestGatewayIsAsObserved(t *testing.T) {
	for _, userspace := range []bool{false, true} {
		t.Run(fmt.Sprintf("userspace %v", userspace), func(t *testing.T) {
			n := newGateway(t, userspace)
			n.ensureGateway(t, testGateway())
			want := []string{"10.128.0.0/14 dev tun0 proto kernel scope link", "172.30.0.0/16 dev tun0"}
			got := lines(strings.ReplaceAll(n.ns.Run(t, "ip", "route"), " linkdown", ""))
			if !slices.Equal(got, want) {
				t.Errorf("routes\n%q, want\n%q", got, want)
			}
			show := n.ns.Run(t, "ip", "address", "show", "tun0")
			for _, part := range []string{"inet 10.130.0.1/23 ", "mtu 1450", ",UP"} {
				if !strings.Contains(show, part) {
					t.Errorf("tun0 lacks %q:\n%s", part, show)
				}
			}
			if got := strings.TrimSpace(n.ns.Run(t, "sysctl", "-n", "net.ipv4.ip_forward")); got != "1" {
				t.Errorf("ip_forward is %s", got)
			}
			if again := n.ensureGateway(t, testGateway()); len(again) != 0 {
				t.Errorf("a second call repairs %q", again)
			}
		})
	}
}

func TestGatewayIsRepaired(t *testing.T) {
	for _, c := range []struct {
		name    string
		damage  string // of ip
		repairs []string
	}{
		{"MTU", "link set tun0 mtu 1500", []string{"tun0: MTU is 1500, should be 1450"}},
		{"down", "link set tun0 down", []string{"tun0: is down",
			"tun0: route 10.128.0.0/14 proto kernel scope link is missing", "tun0: route 172.30.0.0/16 is missing"}},
		{"no address", "address flush dev tun0", []string{"tun0: address 10.130.0.1/23 is missing",
			"tun0: route 10.128.0.0/14 proto kernel scope link is missing", "tun0: route 172.30.0.0/16 is missing"}},
		{"an address too many", "address add 10.130.0.9/23 dev tun0 noprefixroute", []string{"tun0: address 10.130.0.9/23 should not be there"}},
		{"no cluster route", "route del 10.128.0.0/14", []string{"tun0: route 10.128.0.0/14 proto kernel scope link is missing"}},
		{"no service route", "route del 172.30.0.0/16", []string{"tun0: route 172.30.0.0/16 is missing"}},
		{"a route with another scope", "route replace 172.30.0.0/16 dev tun0 scope link", []string{"tun0: route 172.30.0.0/16 is missing"}},
		{"a route too many", "route add 10.132.0.0/14 dev tun0", []string{"tun0: route 10.132.0.0/14 scope link should not be there"}},
		{"the kernel's own route", "route add 10.130.0.0/23 dev tun0 proto kernel scope link src 10.130.0.1",
			[]string{"tun0: route 10.130.0.0/23 proto kernel scope link src 10.130.0.1 should not be there"}},
		{"the same route with a metric", "route add 172.30.0.0/16 dev tun0 metric 50", []string{"tun0: route 172.30.0.0/16 scope link should not be there"}},
		{"the bridge's own device is up", "link set br0 up", []string{"br0: is up, should be down"}},
		{"somebody else's interface", "tuntap add other mode tap", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newGateway(t, false)
			n.ensureGateway(t, testGateway())
			n.ns.Run(t, "ip", strings.Fields(c.damage)...)
			if got := n.ensureGateway(t, testGateway()); !slices.Equal(got, c.repairs) {
				t.Errorf("repairs\n%q, want\n%q", got, c.repairs)
			}
			if again := n.ensureGateway(t, testGateway()); len(again) != 0 {
				t.Errorf("a second call repairs %q", again)
			}
		})
	}
}

func TestSettingsOfTheKernelAreRepaired(t *testing.T) {
	n := newGateway(t, false)
	n.ensureGateway(t, testGateway())
	for _, damage := range []string{"ip_forward=0", "conf.all.send_redirects=1", "conf.tun0.send_redirects=1"} {
		n.ns.Run(t, "sysctl", "-w", "net.ipv4."+damage)
	}
	want := []string{
		"net.ipv4.ip_forward: is 0, should be 1", "net.ipv4.conf.all.send_redirects: is 1, should be 0",
		"net.ipv4.conf.tun0.send_redirects: is 1, should be 0",
	}
	if got := n.ensureGateway(t, testGateway()); !slices.Equal(got, want) {
		t.Errorf("repairs %q, want %q", got, want)
	}
	if again := n.ensureGateway(t, testGateway()); len(again) != 0 {
		t.Errorf("a second call repairs %q", again)
	}
}

func TestOffloadIsOffOnlyInUserspace(t *testing.T) {
	for _, userspace := range []bool{false, true} {
		n := newNode(t, userspace)
		n.ns.Run(t, "ip", "link", "add", "tun0", "type", "veth", "peer", "name", "other")
		n.ensureGateway(t, testGateway())
		want := map[bool]string{false: "on", true: "off"}[userspace]
		if got := n.ns.Run(t, "ethtool", "-k", "tun0"); !strings.Contains(got, "tx-checksum-ip-generic: "+want) {
			t.Errorf("userspace %v:\n%s", userspace, got)
		}
	}
}

func TestGatewayMovesToAnotherSubnet(t *testing.T) {
	n := newGateway(t, false)
	n.ensureGateway(t, testGateway())
	moved := testGateway()
	moved.Address = netip.MustParsePrefix("10.200.4.1/24")
	moved.ClusterNetworks = []netip.Prefix{netip.MustParsePrefix("10.200.0.0/16"), netip.MustParsePrefix("10.201.0.0/16")}
	moved.ServiceNetworks = nil
	n.ensureGateway(t, moved)
	got := lines(strings.ReplaceAll(n.ns.Run(t, "ip", "route"), " linkdown", ""))
	want := []string{"10.200.0.0/16 dev tun0 proto kernel scope link", "10.201.0.0/16 dev tun0 proto kernel scope link"}
	if !slices.Equal(got, want) {
		t.Errorf("routes %q, want %q", got, want)
	}
}

func TestGatewayNamesEveryProblem(t *testing.T) {
	n := newNode(t, false)
	_, err := n.EnsureGateway(t.Context(), Gateway{ServiceNetworks: []netip.Prefix{netip.MustParsePrefix("fd00::/64")}})
	for _, part := range []string{"device is missing", "address", "cluster networks are missing", "fd00::/64", "MTU 0"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not say %q", err, part)
		}
	}
	if _, err := n.EnsureGateway(t.Context(), testGateway()); err == nil || !strings.Contains(err.Error(), "tun0") {
		t.Errorf("a missing device: %v", err)
	}
}

func TestUnderlayIsFoundByItsAddress(t *testing.T) {
	n := newNode(t, false)
	n.ns.Run(t, "ip", "tuntap", "add", "eth0", "mode", "tap")
	n.ns.Run(t, "ip", "link", "set", "eth0", "mtu", "1400")
	n.ns.Run(t, "ip", "address", "add", "192.0.2.7/24", "dev", "eth0")
	n.ns.Run(t, "ip", "address", "add", "192.0.2.8/24", "dev", "eth0")
	got, err := n.FindUnderlay(t.Context(), netip.MustParseAddr("192.0.2.8"))
	if err != nil || got.Name != "eth0" || got.MTU != 1400 || got.Address != netip.MustParsePrefix("192.0.2.8/24") || len(got.MAC) != 6 {
		t.Errorf("FindUnderlay: %+v, %v", got, err)
	}
	_, err = n.FindUnderlay(t.Context(), netip.MustParseAddr("192.0.2.9"))
	if err == nil || !strings.Contains(err.Error(), "192.0.2.7/24") {
		t.Errorf("got error %v", err)
	}
}

func TestOnlyNetworkNamespacesAreOpened(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, "/proc/self/ns/uts", filepath.Join(t.TempDir(), "missing")} {
		if l, err := Open(Config{Namespace: path}); err == nil {
			_ = l.Close()
			t.Errorf("%s was opened", path)
		}
	}
}

func TestMACFollowsFromTheAddress(t *testing.T) {
	if got := PodMAC(netip.MustParseAddr("10.131.2.45")).String(); got != "0a:58:0a:83:02:2d" {
		t.Errorf("PodMAC: %s", got)
	}
	if got := PodMAC(netip.MustParseAddr("fd00::1")); got != nil {
		t.Errorf("PodMAC of IPv6: %s", got)
	}
}
