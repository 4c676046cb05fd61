package link

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

func TestForwardingThatWasSwitchedOffIsSwitchedOn(t *testing.T) {
	n := newGateway(t, false)
	n.ensureGateway(t, testGateway())
	n.ns.Run(t, "sysctl", "-w", "net.ipv4.ip_forward=0")
	if got := n.ensureGateway(t, testGateway()); !slices.Equal(got, []string{"net.ipv4.ip_forward: is 0, should be 1"}) {
		t.Errorf("repairs %q", got)
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

func TestNamesFollowFromTheAttachment(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []string{"a", "ab", "abc"} {
		for _, ifname := range []string{"bc", "c", "eth0"} {
			name := HostVeth(id, ifname)
			if len(name) != len("veth")+8 || name != HostVeth(id, ifname) {
				t.Errorf("HostVeth(%s, %s) = %s", id, ifname, name)
			}
			if other := seen[name]; other != "" {
				t.Errorf("%s/%s and %s are both %s", id, ifname, other, name)
			}
			seen[name] = id + "/" + ifname
		}
	}
	if got := PodMAC(netip.MustParseAddr("10.131.2.45")).String(); got != "0a:58:0a:83:02:2d" {
		t.Errorf("PodMAC: %s", got)
	}
	if got := PodMAC(netip.MustParseAddr("fd00::1")); got != nil {
		t.Errorf("PodMAC of IPv6: %s", got)
	}
}

// pod is a namespace that plays a pod.
func (n *node) pod(t testing.TB, i int) (Pod, *netnstest.Namespace) {
	t.Helper()
	ns := netnstest.New(t, fmt.Sprintf("pod%d", i))
	ip := netip.AddrFrom4([4]byte{10, 131, byte(2 + i/200), byte(45 + i%200)})
	return Pod{
		Netns: ns.Path(), Interface: "eth0", HostVeth: HostVeth(fmt.Sprint("sandbox", i), "eth0"),
		Address: netip.PrefixFrom(ip, 23), Gateway: netip.MustParseAddr("10.131.2.1"),
		ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")}, MTU: 1450,
	}, ns
}

func TestPodIsAsObserved(t *testing.T) {
	for _, userspace := range []bool{false, true} {
		t.Run(fmt.Sprintf("userspace %v", userspace), func(t *testing.T) {
			n := newNode(t, userspace)
			p, inside := n.pod(t, 0)
			got, err := n.EnsurePod(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if !got.Created || got.Repairs != nil || got.MAC.String() != "0a:58:0a:83:02:2d" {
				t.Errorf("EnsurePod: %+v", got)
			}
			want := []string{
				"default via 10.131.2.1 dev eth0",
				"10.128.0.0/14 dev eth0",
				"10.131.2.0/23 dev eth0 proto kernel scope link src 10.131.2.45",
				"224.0.0.0/4 dev eth0",
			}
			if routes := lines(inside.Run(t, "ip", "route")); !slices.Equal(routes, want) {
				t.Errorf("routes\n%q, want\n%q", routes, want)
			}
			show := inside.Run(t, "ip", "address", "show", "eth0")
			for _, part := range []string{"inet 10.131.2.45/23 ", "mtu 1450", ",UP", "link/ether 0a:58:0a:83:02:2d"} {
				if !strings.Contains(show, part) {
					t.Errorf("eth0 lacks %q:\n%s", part, show)
				}
			}
			host := n.ns.Run(t, "ip", "address", "show", p.HostVeth)
			for _, part := range []string{"mtu 1450", ",UP", "link/ether " + got.HostMAC.String(), fmt.Sprintf("%d: ", got.HostIndex)} {
				if !strings.Contains(host, part) {
					t.Errorf("%s lacks %q:\n%s", p.HostVeth, part, host)
				}
			}
			if strings.Contains(host, "inet") {
				t.Errorf("%s has an address:\n%s", p.HostVeth, host)
			}
			again, err := n.EnsurePod(t.Context(), p)
			if err != nil || again.Created || len(again.Repairs) != 0 || again.HostIndex != got.HostIndex {
				t.Errorf("second EnsurePod: %+v, %v", again, err)
			}
			if differences, err := n.CheckPod(t.Context(), p); err != nil || len(differences) != 0 {
				t.Errorf("CheckPod: %q, %v", differences, err)
			}
			for range 2 {
				if err := n.DeletePod(t.Context(), p.HostVeth); err != nil {
					t.Error(err)
				}
			}
			if left := inside.Run(t, "ip", "-o", "link"); strings.Contains(left, "eth0") {
				t.Errorf("eth0 is left:\n%s", left)
			}
			if in, err := n.Quarantined(); err != nil || len(in) != 0 {
				t.Errorf("quarantine is left: %q, %v", in, err)
			}
		})
	}
}

func TestPodIsCheckedAndRepaired(t *testing.T) {
	for _, c := range []struct {
		name    string
		inside  string // damage by ip in the pod
		outside string // damage by ip on the node
		want    []string
	}{
		{"address", "address del 10.131.2.45/23 dev eth0", "", []string{"eth0: address 10.131.2.45/23 is missing",
			"eth0: route 10.131.2.0/23 proto kernel scope link src 10.131.2.45 is missing", "eth0: route default via 10.131.2.1 is missing",
			"eth0: route 10.128.0.0/14 is missing", "eth0: route 224.0.0.0/4 is missing"}},
		{"default route", "route del default", "", []string{"eth0: route default via 10.131.2.1 is missing"}},
		{"cluster route by the gateway", "route replace 10.128.0.0/14 via 10.131.2.1", "", []string{"eth0: route 10.128.0.0/14 is missing"}},
		{"MAC", "link set eth0 address 02:00:00:00:00:01", "", []string{"eth0: MAC address is 02:00:00:00:00:01, should be 0a:58:0a:83:02:2d"}},
		{"MTU inside", "link set eth0 mtu 1400", "", []string{"eth0: MTU is 1400, should be 1450"}},
		{"lo is down", "link set lo down", "", []string{"lo: is down"}},
		{"MTU outside", "", "link set HOST mtu 1300", []string{"HOST: MTU is 1300, should be 1450"}},
		{"down outside", "", "link set HOST down", []string{"HOST: is down"}},
		{"the pair is gone", "", "link del HOST", []string{"HOST: is missing"}},
		{"a pod's own addition", "address add 192.0.2.1/32 dev eth0", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t, false)
			p, inside := n.pod(t, 0)
			if _, err := n.EnsurePod(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if c.inside != "" {
				inside.Run(t, "ip", strings.Fields(c.inside)...)
			}
			if c.outside != "" {
				n.ns.Run(t, "ip", strings.Fields(strings.ReplaceAll(c.outside, "HOST", p.HostVeth))...)
			}
			var want []string
			for _, line := range c.want {
				want = append(want, strings.ReplaceAll(line, "HOST", p.HostVeth))
			}
			if got, err := n.CheckPod(t.Context(), p); err != nil || !slices.Equal(got, want) {
				t.Errorf("CheckPod\n%q, %v, want\n%q", got, err, want)
			}
			if _, err := n.EnsurePod(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if got, err := n.CheckPod(t.Context(), p); err != nil || len(got) != 0 {
				t.Errorf("after the repair: %q, %v", got, err)
			}
		})
	}
}

func TestStalePairOfAnotherNamespaceIsReplaced(t *testing.T) {
	n := newNode(t, true)
	old, _ := n.pod(t, 0)
	if _, err := n.EnsurePod(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	p, inside := n.pod(t, 0)
	if got, err := n.CheckPod(t.Context(), p); err != nil || len(got) != 1 || !strings.Contains(got[0], "its other end is not in") {
		t.Errorf("CheckPod: %q, %v", got, err)
	}
	got, err := n.EnsurePod(t.Context(), p)
	if err != nil || !got.Created || len(got.Repairs) != 1 {
		t.Errorf("EnsurePod: %+v, %v", got, err)
	}
	inside.Run(t, "ip", "link", "show", "eth0")
	if in, err := n.Quarantined(); err != nil || !slices.Equal(in, []string{p.HostVeth}) {
		t.Errorf("quarantine: %q, %v", in, err)
	}
}

func TestForeignInterfacesAreNeverTaken(t *testing.T) {
	n := newNode(t, false)
	p, inside := n.pod(t, 0)
	inside.Run(t, "ip", "tuntap", "add", "eth0", "mode", "tap")
	if _, err := n.EnsurePod(t.Context(), p); err == nil || !strings.Contains(err.Error(), "eth0 exists already") {
		t.Errorf("a foreign eth0: %v", err)
	}
	if left := n.ns.Run(t, "ip", "-o", "link"); strings.Contains(left, p.HostVeth) {
		t.Errorf("a half-made pair is left:\n%s", left)
	}
	inside.Run(t, "ip", "link", "del", "eth0")
	n.ns.Run(t, "ip", "tuntap", "add", p.HostVeth, "mode", "tap")
	if _, err := n.EnsurePod(t.Context(), p); err == nil || !strings.Contains(err.Error(), "tuntap of somebody else") {
		t.Errorf("a foreign %s: %v", p.HostVeth, err)
	}
}

func TestNodesOwnNamespaceIsRefused(t *testing.T) {
	n := newNode(t, false)
	p, _ := n.pod(t, 0)
	p.Netns = n.ns.Path()
	if _, err := n.EnsurePod(t.Context(), p); err == nil || !strings.Contains(err.Error(), "node's own") {
		t.Errorf("got error %v", err)
	}
}

func TestPodNamesEveryProblem(t *testing.T) {
	n := newNode(t, false)
	_, err := n.EnsurePod(t.Context(), Pod{Netns: "relative", Interface: "sixteencharacter", HostVeth: "a/b",
		Address: netip.MustParsePrefix("10.131.2.45/23"), Gateway: netip.MustParseAddr("10.9.9.9")})
	for _, part := range []string{`"relative"`, `"sixteencharacter"`, `"a/b"`, "gateway 10.9.9.9 is not in", "cluster networks are missing", "MTU 0"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not say %q", err, part)
		}
	}
}

func TestPodWhoseNamespaceIsGoneIsDeleted(t *testing.T) {
	n := newNode(t, true)
	p, inside := n.pod(t, 0)
	if _, err := n.EnsurePod(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	inside.Run(t, "ip", "link", "del", "eth0") // as the end of the namespace does
	if err := n.DeletePod(t.Context(), p.HostVeth); err != nil {
		t.Error(err)
	}
	if in, err := n.Quarantined(); err != nil || len(in) != 0 {
		t.Errorf("quarantine is left: %q, %v", in, err)
	}
}

func TestManyPodsAtOnce(t *testing.T) {
	const pods = 40
	n := newNode(t, true)
	all := make([]Pod, pods)
	for i := range all {
		all[i], _ = n.pod(t, i)
	}
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() {
			if _, err := n.EnsurePod(t.Context(), p); err != nil {
				t.Error(err)
			}
			if got, err := n.CheckPod(t.Context(), p); err != nil || len(got) != 0 {
				t.Errorf("CheckPod: %q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if in, err := n.Quarantined(); err != nil || len(in) != pods {
		t.Errorf("%d in quarantine, %v", len(in), err)
	}
	for _, p := range all {
		wg.Go(func() {
			if err := n.DeletePod(t.Context(), p.HostVeth); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left := lines(n.ns.Run(t, "ip", "-o", "link")); len(left) != 1 {
		t.Errorf("links left: %q", left)
	}
	if in, err := n.Quarantined(); err != nil || len(in) != 0 {
		t.Errorf("quarantine is left: %q, %v", in, err)
	}
}

func TestQuarantineOfOneDeviceDoesNotDisturbOthers(t *testing.T) {
	n := newNode(t, true)
	for _, device := range []string{"a", "b", "c"} {
		n.ns.Run(t, "ip", "tuntap", "add", device, "mode", "tap")
		if err := n.Quarantine(device); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Release("b"); err != nil {
		t.Error(err)
	}
	if err := n.Release("b"); err != nil {
		t.Errorf("second Release: %v", err)
	}
	ruleset := n.ns.Run(t, "nft", "list", "table", "netdev", quarantineTable)
	for _, device := range []string{"a", "c"} {
		want := fmt.Sprintf(`type filter hook ingress device "%s" priority filter; policy drop;`, device)
		if !strings.Contains(ruleset, want) {
			t.Errorf("no %q in\n%s", want, ruleset)
		}
	}
	if strings.Contains(ruleset, "chain b") {
		t.Errorf("b is left in\n%s", ruleset)
	}
	n.ns.Run(t, "ip", "link", "del", "dev", "c")
	got, err := n.EnsureQuarantine(t.Context(), []string{"a", "b", "gone"})
	if err != nil || !slices.Contains(got, "b: is not in quarantine") {
		t.Errorf("EnsureQuarantine: %q, %v", got, err)
	}
	if in, err := n.Quarantined(); err != nil || !slices.Equal(in, []string{"a", "b"}) {
		t.Errorf("quarantine: %q, %v", in, err)
	}
	if got, err := n.EnsureQuarantine(t.Context(), []string{"a", "b"}); err != nil || len(got) != 0 {
		t.Errorf("second EnsureQuarantine: %q, %v", got, err)
	}
}

func TestQuarantineHoldsForADeviceMadeAnew(t *testing.T) {
	n := newNode(t, true)
	for range 2 {
		n.ns.Run(t, "ip", "tuntap", "add", "a", "mode", "tap")
		if err := n.Quarantine("a"); err != nil {
			t.Fatal(err)
		}
		if got := n.ns.Run(t, "nft", "list", "ruleset"); strings.Count(got, `device "a"`) != 1 {
			t.Errorf("ruleset:\n%s", got)
		}
		n.ns.Run(t, "ip", "link", "del", "dev", "a")
	}
}
