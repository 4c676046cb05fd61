package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/ovstest"
)

// patience bounds every wait on the real switch. It only matters when a test fails.
const patience = 20 * time.Second

// node is a switch with a Bridge on it.
type node struct {
	*Bridge
	sw *ovstest.Switch
	ns *netnstest.Namespace
}

// newNode starts a switch in the userspace datapath, with real devices.
func newNode(t testing.TB) *node {
	t.Helper()
	ns := netnstest.New(t, "node")
	sw := ovstest.Start(t, ovstest.Options{Namespace: ns, Datapath: ovstest.Netdev})
	return &node{Bridge: run(t, "unix:"+sw.DBSocket()), sw: sw, ns: ns}
}

// run makes a Bridge whose Run ends with the test.
func run(t testing.TB, database string) *Bridge {
	t.Helper()
	b := New(Config{Database: database}, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return b
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func vxlanSpec() Spec {
	return Spec{DatapathType: UserspaceDatapath, Tunnel: Tunnel{Type: VXLAN, Port: 4789}, MTU: 1450, GatewayMAC: gatewayMAC()}
}

// gatewayMAC is that of 10.130.0.1.
func gatewayMAC() net.HardwareAddr { return net.HardwareAddr{0x0a, 0x58, 10, 130, 0, 1} }

func (n *node) ensure(t testing.TB, spec Spec) []string {
	t.Helper()
	repairs, err := n.EnsureBridge(within(t), spec)
	if err != nil {
		t.Fatalf("EnsureBridge: %v (after %q)", err, repairs)
	}
	return repairs
}

// device makes a device that can be a port.
func (n *node) device(t testing.TB, name string) {
	t.Helper()
	n.ns.Run(t, "ip", "link", "add", name, "type", "veth", "peer", "name", "p"+name)
}

// get reads one column with ovs-vsctl.
func (n *node) get(t testing.TB, table, record, column string) string {
	t.Helper()
	return n.sw.Vsctl(t, "get", table, record, column)
}

func TestBridgeIsCreatedAsObserved(t *testing.T) {
	n := newNode(t)
	repairs := n.ensure(t, vxlanSpec())
	if want := []string{"port br0 created", "port vxlan0 created", "port tun0 created", "bridge br0 created"}; !slices.Equal(repairs, want) {
		t.Errorf("repairs %q, want %q", repairs, want)
	}
	for _, c := range []struct{ table, record, column, want string }{
		{"Bridge", "br0", "fail_mode", "secure"},
		{"Bridge", "br0", "datapath_type", "netdev"},
		{"Bridge", "br0", "protocols", "[OpenFlow10, OpenFlow13, OpenFlow14, OpenFlow15]"},
		{"Bridge", "br0", "other_config", `{disable-in-band="true"}`},
		{"Interface", "vxlan0", "ofport", "1"},
		{"Interface", "vxlan0", "type", "vxlan"},
		{"Interface", "vxlan0", "options", `{dst_port="4789", key=flow, remote_ip=flow}`},
		{"Interface", "tun0", "ofport", "2"},
		{"Interface", "tun0", "type", "internal"},
		{"Interface", "tun0", "mtu", "1450"},
		{"Interface", "tun0", "mac_in_use", `"0a:58:0a:82:00:01"`},
	} {
		if got := n.get(t, c.table, c.record, c.column); got != c.want {
			t.Errorf("%s %s %s: got %s, want %s", c.table, c.record, c.column, got, c.want)
		}
	}
	n.sw.Ofctl(t, "dump-flows", "br0") // OpenFlow 1.3 is spoken
}

func TestSecondEnsureSendsNothing(t *testing.T) {
	n := newNode(t)
	n.ensure(t, vxlanSpec())
	before := n.get(t, "Open_vSwitch", ".", "next_cfg")
	if repairs := n.ensure(t, vxlanSpec()); len(repairs) != 0 {
		t.Errorf("repairs %q", repairs)
	}
	if after := n.get(t, "Open_vSwitch", ".", "next_cfg"); after != before {
		t.Errorf("next_cfg went from %s to %s", before, after)
	}
}

func TestDamageIsRepairedInPlace(t *testing.T) {
	for _, c := range []struct {
		name    string
		damage  []string // an ovs-vsctl command
		repairs []string // beginnings
	}{
		{"fail mode", []string{"set-fail-mode", "br0", "standalone"}, []string{"bridge br0: fail_mode"}},
		{"protocols", []string{"set", "Bridge", "br0", "protocols=OpenFlow12"}, []string{"bridge br0: protocols OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15 added"}},
		{"no in-band setting", []string{"clear", "Bridge", "br0", "other_config"}, []string{"bridge br0: other_config:disable-in-band"}},
		{"tunnel port", []string{"set", "Interface", "vxlan0", "options:dst_port=4790"}, []string{"port vxlan0: options"}},
		{"an option too many", []string{"set", "Interface", "vxlan0", "options:key=7"}, []string{"port vxlan0: options"}},
		{"tunnel type", []string{"set", "Interface", "vxlan0", "type=geneve"}, []string{"port vxlan0: type"}},
		{"MTU", []string{"set", "Interface", "tun0", "mtu_request=1400"}, []string{"port tun0: mtu_request was 1400"}},
		{"MAC", []string{"set", "Interface", "tun0", `mac="0a:58:00:00:00:07"`}, []string{`port tun0: MAC was "0a:58:00:00:00:07", now 0a:58:0a:82:00:01`}},
		{"no MAC", []string{"clear", "Interface", "tun0", "mac"}, []string{`port tun0: MAC was "", now 0a:58:0a:82:00:01`}},
		{"number of the tunnel", []string{"set", "Interface", "vxlan0", "ofport_request=77"}, []string{"port vxlan0: OpenFlow port was 77"}},
		{"number of tun0", []string{"set", "Interface", "tun0", "ofport_request=9"}, []string{"port tun0: OpenFlow port was 9"}},
		{"no request for a number", []string{"clear", "Interface", "tun0", "ofport_request"}, []string{"port tun0: OpenFlow port was 2"}},
		{"tun0 is gone", []string{"del-port", "tun0"}, []string{"port tun0 created"}},
		{"vxlan0 is gone", []string{"del-port", "vxlan0"}, []string{"port vxlan0 created"}},
		{"a stranger took number 1", []string{"del-port", "vxlan0", "--", "add-port", "br0", "thief", "--", "set", "Interface", "thief", "type=internal", "ofport_request=1"},
			[]string{"port thief: request for OpenFlow port 1 taken away", "port vxlan0 created"}},
		{"ports swapped", []string{"set", "Interface", "vxlan0", "ofport_request=2", "--", "set", "Interface", "tun0", "ofport_request=1"},
			[]string{"port vxlan0: OpenFlow port was 2", "port tun0: OpenFlow port was 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			n.ensure(t, vxlanSpec())
			bridge := n.get(t, "Bridge", "br0", "_uuid")
			n.sw.Vsctl(t, c.damage...)
			repairs := n.ensure(t, vxlanSpec())
			if len(repairs) != len(c.repairs) {
				t.Errorf("repairs %q, want %q", repairs, c.repairs)
			}
			for _, want := range c.repairs {
				if !slices.ContainsFunc(repairs, func(r string) bool { return strings.HasPrefix(r, want) }) {
					t.Errorf("repairs %q, want one that begins with %q", repairs, want)
				}
			}
			if got := n.get(t, "Bridge", "br0", "_uuid"); got != bridge {
				t.Error("the bridge is another one now")
			}
			if got := n.get(t, "Interface", "vxlan0", "ofport") + n.get(t, "Interface", "tun0", "ofport"); got != "12" {
				t.Errorf("ports of vxlan0 and tun0: %s", got)
			}
			if again := n.ensure(t, vxlanSpec()); len(again) != 0 {
				t.Errorf("a second repair: %q", again)
			}
		})
	}
}

func TestTunnelTypeChangesOnARunningBridge(t *testing.T) {
	n := newNode(t)
	n.ensure(t, vxlanSpec())
	for _, tunnel := range []Tunnel{{Geneve, 6081}, {GRE, 0}, {VXLAN, 8472}} {
		spec := vxlanSpec()
		spec.Tunnel = tunnel
		n.ensure(t, spec)
		if got := n.get(t, "Interface", tunnel.PortName(), "ofport"); got != "1" {
			t.Errorf("%s has OpenFlow port %s", tunnel.PortName(), got)
		}
		for _, other := range tunnel.otherTunnels() {
			if strings.Contains(n.sw.Vsctl(t, "list-ports", "br0"), other) {
				t.Errorf("%s is still there beside %s", other, tunnel.PortName())
			}
		}
	}
}

func TestForeignSettingsStay(t *testing.T) {
	n := newNode(t)
	n.ensure(t, vxlanSpec())
	n.device(t, "veth1")
	n.sw.Vsctl(t, "set", "Bridge", "br0", "protocols=OpenFlow10,OpenFlow11,OpenFlow13,OpenFlow14,OpenFlow15", "other_config:mine=1",
		"--", "add-port", "br0", "veth1", "--", "set", "Interface", "vxlan0", "ofport_request=5")
	n.ensure(t, vxlanSpec())
	if got := n.get(t, "Bridge", "br0", "protocols"); !strings.Contains(got, "OpenFlow10") {
		t.Errorf("protocols: %s", got)
	}
	if got := n.get(t, "Bridge", "br0", "other_config:mine"); got != `"1"` {
		t.Errorf("other_config:mine: %s", got)
	}
	if got := n.sw.Vsctl(t, "list-ports", "br0"); !strings.Contains(got, "veth1") {
		t.Errorf("ports: %s", got)
	}
}

func TestPortOfAnotherBridgeIsRefused(t *testing.T) {
	n := newNode(t)
	n.sw.AddBridge(t, "other")
	n.sw.Vsctl(t, "add-port", "other", "tun0", "--", "set", "Interface", "tun0", "type=internal")
	_, err := n.EnsureBridge(within(t), vxlanSpec())
	if err == nil || !strings.Contains(err.Error(), "port tun0 is in bridge other") {
		t.Errorf("got error %v", err)
	}
	if got := n.sw.Vsctl(t, "list-br"); got != "other" {
		t.Errorf("half of the bridge was made: %s", got)
	}
}

func TestDatapathThatTheMachineCannotDoIsAClearError(t *testing.T) {
	if there, err := kernelDatapath(); err != nil || there {
		t.Skipf("the kernel module is here (%v)", err)
	}
	n := newNode(t)
	spec := vxlanSpec()
	spec.DatapathType = SystemDatapath
	_, err := n.EnsureBridge(within(t), spec)
	if err == nil || !strings.Contains(err.Error(), "cannot open datapath type system") {
		t.Errorf("got error %v", err)
	}
	if got, err := n.DatapathType(within(t)); got != UserspaceDatapath || err != nil {
		t.Errorf("DatapathType: %s, %v", got, err)
	}
	// The same bridge, repaired, works.
	n.ensure(t, vxlanSpec())
}

func TestSpecNamesEveryProblem(t *testing.T) {
	n := New(Config{}, hclog.NewNullLogger())
	_, err := n.EnsureBridge(t.Context(), Spec{DatapathType: "dpdk", Tunnel: Tunnel{Type: "stt"}, MTU: 20, GatewayMAC: net.HardwareAddr{1, 2}})
	for _, part := range []string{"gateway MAC 01:02", `datapath type "dpdk"`, `tunnel type "stt"`, "MTU 20"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not say %q", err, part)
		}
	}
	for _, c := range []struct {
		tunnel Tunnel
		want   string
	}{{Tunnel{Type: GRE, Port: 5}, "gre has no ports"}, {Tunnel{Type: VXLAN}, "needs a UDP port"}} {
		if got := c.tunnel.problems(); len(got) != 1 || !strings.Contains(got[0], c.want) {
			t.Errorf("problems of %+v: %q", c.tunnel, got)
		}
	}
}

func TestPortIsConfirmedKeptAndForgotten(t *testing.T) {
	n := newNode(t)
	n.ensure(t, vxlanSpec())
	n.device(t, "veth1")
	ids := map[string]string{"sandbox": "abc", "ip": "10.130.0.5"}
	first, err := n.AddPort(within(t), Port{Name: "veth1", ExternalIDs: ids})
	if err != nil || first < FirstPodOFPort {
		t.Fatalf("AddPort: %d, %v", first, err)
	}
	if got := n.get(t, "Interface", "veth1", "ofport"); got != fmt.Sprint(first) {
		t.Errorf("ofport %s, want %d", got, first)
	}
	before := n.get(t, "Open_vSwitch", ".", "next_cfg")
	if again, err := n.AddPort(within(t), Port{Name: "veth1", ExternalIDs: ids}); again != first || err != nil {
		t.Errorf("second AddPort: %d, %v, want %d", again, err, first)
	}
	if after := n.get(t, "Open_vSwitch", ".", "next_cfg"); after != before {
		t.Error("the second AddPort wrote something")
	}
	ids["sandbox"] = "def"
	if _, err := n.AddPort(within(t), Port{Name: "veth1", ExternalIDs: ids}); err != nil {
		t.Fatal(err)
	}
	ports, err := n.Ports(within(t))
	if err != nil || len(ports) != 1 || ports[0].Name != "veth1" || ports[0].OFPort != first || !maps.Equal(ports[0].ExternalIDs, ids) {
		t.Errorf("Ports: %+v, %v", ports, err)
	}
	for range 2 {
		if err := n.DeletePort(within(t), "veth1"); err != nil {
			t.Fatal(err)
		}
		if ports, err := n.Ports(within(t)); err != nil || len(ports) != 0 {
			t.Errorf("Ports after DeletePort: %+v, %v", ports, err)
		}
	}
	second, err := n.AddPort(within(t), Port{Name: "veth1", ExternalIDs: ids})
	if err != nil || second == first {
		t.Errorf("the number %d was given again at once (%v)", second, err)
	}
}

func TestRequestedNumberIsGivenOrRefused(t *testing.T) {
	n := newNode(t)
	n.ensure(t, vxlanSpec())
	n.device(t, "veth1")
	n.device(t, "veth2")
	if got, err := n.AddPort(within(t), Port{Name: "veth1", OFPort: 41}); got != 41 || err != nil {
		t.Fatalf("AddPort: %d, %v", got, err)
	}
	if _, err := n.AddPort(within(t), Port{Name: "veth2", OFPort: 41}); !errors.Is(err, ErrOFPortTaken) {
		t.Errorf("got error %v", err)
	}
	if ports := n.sw.Vsctl(t, "list-ports", "br0"); strings.Contains(ports, "veth2") {
		t.Errorf("the refused port is there: %s", ports)
	}
	if got, err := n.AddPort(within(t), Port{Name: "veth1", OFPort: 42}); got != 42 || err != nil {
		t.Errorf("another number for a port: %d, %v", got, err)
	}
	for _, p := range []Port{{Name: "veth2", OFPort: 2}, {Name: "veth2", OFPort: 65280}, {Name: "a/b"}, {}, {Name: "sixteencharacter"}} {
		if _, err := n.AddPort(within(t), p); err == nil || !strings.HasPrefix(err.Error(), "port: ") {
			t.Errorf("AddPort(%+v): %v", p, err)
		}
	}
}

func TestPortWithoutDeviceIsAClearErrorAndLeavesNoRow(t *testing.T) {
	n := newNode(t)
	n.ensure(t, vxlanSpec())
	_, err := n.AddPort(within(t), Port{Name: "vethmissing"})
	if err == nil || !strings.Contains(err.Error(), "No such device") {
		t.Errorf("got error %v", err)
	}
	if rows := n.sw.Vsctl(t, "--columns=name", "find", "Interface", "name=vethmissing"); rows != "" {
		t.Errorf("a row is left: %s", rows)
	}
	n.device(t, "vethmissing")
	if _, err := n.AddPort(within(t), Port{Name: "vethmissing"}); err != nil {
		t.Errorf("AddPort once the device is there: %v", err)
	}
}

func TestPortOfAForeignBridgeIsNeitherTakenNorDeleted(t *testing.T) {
	n := newNode(t)
	n.ensure(t, vxlanSpec())
	n.sw.AddBridge(t, "other")
	n.device(t, "veth1")
	n.sw.Vsctl(t, "add-port", "other", "veth1")
	if _, err := n.AddPort(within(t), Port{Name: "veth1"}); err == nil || !strings.Contains(err.Error(), `bridge "other"`) {
		t.Errorf("AddPort: %v", err)
	}
	if err := n.DeletePort(within(t), "veth1"); err == nil || !strings.Contains(err.Error(), "bridge other") {
		t.Errorf("DeletePort: %v", err)
	}
}

func TestManyPortsAtOnceGetDifferentNumbers(t *testing.T) {
	const ports = 60
	n := newNode(t)
	n.ensure(t, vxlanSpec())
	for i := range ports {
		n.device(t, fmt.Sprintf("veth%d", i))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	numbers := map[uint32]string{}
	for i := range ports {
		wg.Go(func() {
			name := fmt.Sprintf("veth%d", i)
			number, err := n.AddPort(within(t), Port{Name: name})
			mu.Lock()
			defer mu.Unlock()
			if err != nil || numbers[number] != "" {
				t.Errorf("AddPort(%s): %d (also %s), %v", name, number, numbers[number], err)
			}
			numbers[number] = name
		})
	}
	wg.Wait()
	for i := range ports {
		wg.Go(func() {
			if err := n.DeletePort(within(t), fmt.Sprintf("veth%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := n.sw.Vsctl(t, "list-ports", "br0"); got != "tun0\nvxlan0" {
		t.Errorf("ports left: %s", got)
	}
}

func TestSamePortAddedAndDeletedByManyStaysConsistent(t *testing.T) {
	n := newNode(t)
	n.ensure(t, vxlanSpec())
	n.device(t, "veth1")
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			var err error
			if i%3 == 2 {
				err = n.DeletePort(within(t), "veth1")
			} else {
				_, err = n.AddPort(within(t), Port{Name: "veth1"})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if number, err := n.AddPort(within(t), Port{Name: "veth1"}); err != nil || number < FirstPodOFPort {
		t.Errorf("AddPort at the end: %d, %v", number, err)
	}
}

func TestNumbersSurviveARestartOfTheSwitch(t *testing.T) {
	n := newNode(t)
	n.ensure(t, vxlanSpec())
	want := map[string]uint32{}
	for _, name := range []string{"vethc", "vetha", "vethb"} {
		n.device(t, name)
		number, err := n.AddPort(within(t), Port{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		want[name] = number
	}
	if err := n.DeletePort(within(t), "vethc"); err != nil {
		t.Fatal(err)
	}
	delete(want, "vethc")
	n.sw.KillVswitchd()
	// Without a switch ports can still be deleted, and nothing is confirmed.
	if err := n.DeletePort(within(t), "vethc"); err != nil {
		t.Error(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := n.AddPort(short, Port{Name: "vethc"}); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "ovs-vswitchd") {
		t.Errorf("AddPort without a switch: %v", err)
	}
	// A port that worked before is not lost to a call that was given up.
	short, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := n.AddPort(short, Port{Name: "vetha", ExternalIDs: map[string]string{"new": "id"}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("AddPort without a switch: %v", err)
	}
	n.sw.StartVswitchd(t)
	if repairs := n.ensure(t, vxlanSpec()); len(repairs) != 0 {
		t.Errorf("repairs after the restart: %q", repairs)
	}
	if show := n.ns.Run(t, "ip", "link", "show", "tun0"); !strings.Contains(show, gatewayMAC().String()) {
		t.Errorf("tun0 has another MAC after the restart:\n%s", show)
	}
	ports, err := n.Ports(within(t))
	if err != nil || len(ports) != len(want) {
		t.Fatalf("Ports: %+v, %v", ports, err)
	}
	for _, p := range ports {
		if p.OFPort != want[p.Name] {
			t.Errorf("%s had number %d, has %d", p.Name, want[p.Name], p.OFPort)
		}
	}
}
