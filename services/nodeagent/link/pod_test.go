package link

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/damask-sdn/damask/internal/netnstest"
)

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
