package firewallguard_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/services/nodeagent/firewallguard"
)

// node is a node between a pod and an outside host, and translates two addresses of
// services to two ports of that host.
type node struct {
	*netnstest.Namespace
	pod     *netnstest.Namespace
	outside *netnstest.Namespace
	guard   *firewallguard.Guard
}

// stranger is a pod of another node.
const stranger = "10.129.0.7"

var (
	pod      = netip.MustParseAddr("10.128.0.2")
	outside  = netip.MustParseAddr("192.0.2.9")
	endpoint = firewallguard.Endpoint{Address: netip.MustParseAddrPort("192.0.2.9:8081"), Protocol: 6}
)

func start(t *testing.T) *node {
	t.Helper()
	proctest.Need(t, "nft")
	n := &node{Namespace: netnstest.New(t, "node"), pod: netnstest.New(t, "pod"), outside: netnstest.New(t, "outside")}
	link := func(peer *netnstest.Namespace, device, address, peerAddress string) {
		n.Connect(t, device, peer, "p"+device)
		n.Run(t, "ip", "address", "add", address, "dev", device)
		n.Run(t, "ip", "link", "set", device, "up")
		peer.Run(t, "ip", "address", "add", peerAddress, "dev", "p"+device)
		peer.Run(t, "ip", "link", "set", "p"+device, "up")
		peer.Run(t, "ip", "route", "add", "default", "via", strings.Split(address, "/")[0])
	}
	link(n.pod, "tun0", "10.128.0.1/24", "10.128.0.2/24")
	n.pod.Run(t, "ip", "address", "add", stranger+"/32", "dev", "ptun0")
	n.Run(t, "ip", "route", "add", stranger+"/32", "dev", "tun0")
	link(n.outside, "eth0", "192.0.2.1/24", "192.0.2.9/24")
	n.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	n.Run(t, "nft", "add table ip nat; add chain ip nat pre { type nat hook prerouting priority -100; }; "+
		"add rule ip nat pre ip daddr 172.30.0.1 meta l4proto { tcp, udp } th dport 80 dnat to 192.0.2.9:8081; "+
		"add rule ip nat pre ip daddr 172.30.0.2 meta l4proto { tcp, udp } th dport 80 dnat to 192.0.2.9:8082")
	for _, port := range []string{"8081", "8082", "30001"} {
		var listener net.Listener
		var err error
		n.outside.Do(t, func() { listener, err = net.Listen("tcp4", ":"+port) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
	}
	var err error
	if n.guard, err = firewallguard.Open(n.Path()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.guard.Close() })
	return n
}

// connects says whether the pod reaches an address.
func (n *node) connects(t *testing.T, address string) bool {
	t.Helper()
	return n.connectsFrom(t, pod.String(), address)
}

func (n *node) connectsFrom(t *testing.T, source, address string) bool {
	t.Helper()
	var conn net.Conn
	var err error
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: 700 * time.Millisecond}
	n.pod.Do(t, func() { conn, err = from.DialContext(t.Context(), "tcp4", address) })
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

func (n *node) want(t *testing.T, what string, first, second bool) {
	t.Helper()
	if !n.connects(t, "192.0.2.9:8081") {
		t.Errorf("%s: what is not translated is kept", what)
	}
	if a, b := n.connects(t, "172.30.0.1:80"), n.connects(t, "172.30.0.2:80"); a != first || b != second {
		t.Errorf("%s: reached are the first service: %t, the second: %t; want %t and %t", what, a, b, first, second)
	}
}

// wantNodePort asks the outside host as if it were another node.
func (n *node) wantNodePort(t *testing.T, what string, passes bool) {
	t.Helper()
	if got := n.connects(t, "192.0.2.9:30001"); got != passes {
		t.Errorf("a node port, %s: reached: %t", what, got)
	}
}

func TestServicesLeadOutsideOnlyWhereTheFirewallAllows(t *testing.T) {
	n := start(t)
	ensure := func() []string {
		t.Helper()
		repairs, err := n.guard.Ensure(t.Context(), firewallguard.Config{Pods: netip.MustParsePrefix("10.128.0.0/23")})
		if err != nil {
			t.Fatal(err)
		}
		return repairs
	}
	set := func(w firewallguard.Wanted) {
		t.Helper()
		if err := n.guard.Set(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	n.want(t, "without a guard", true, true)
	if repairs := ensure(); len(repairs) == 0 {
		t.Error("the table is made without a word")
	}
	n.want(t, "a pod that is not known", false, false)
	if packets, err := n.guard.Dropped(t.Context()); err != nil || packets == 0 {
		t.Errorf("%d packets are counted, %v", packets, err)
	}
	set(firewallguard.Wanted{Free: []netip.Addr{pod}})
	n.want(t, "a pod without firewall", true, true)
	judged := firewallguard.Wanted{Judged: map[netip.Addr]string{pod: "red"}, Allowed: map[string][]firewallguard.Endpoint{"red": {endpoint}}}
	set(judged)
	n.want(t, "a firewall that allows one endpoint", true, false)
	other := judged
	other.Judged = map[netip.Addr]string{pod: "blue"}
	set(other)
	n.want(t, "another firewall, which does not", false, false)
	if has := n.Run(t, "nft", "list table ip damask_firewall"); strings.Contains(has, "red") || !strings.Contains(has, "chain fw-blue") {
		t.Errorf("of the firewall that is gone something is left, or the other is not there:\n%s", has)
	}
	set(judged)
	if repairs := ensure(); len(repairs) > 0 {
		t.Errorf("nothing differs, and repairs are %q", repairs)
	}
	nodes := judged
	nodes.Nodes, nodes.NodePorts = []netip.Addr{outside}, []firewallguard.NodePort{{Protocol: 6, Port: 30001}}
	set(nodes)
	n.wantNodePort(t, "one that leads outside, which the firewall does not allow", false)
	nodes.Allowed = map[string][]firewallguard.Endpoint{"red": {endpoint, {Address: netip.AddrPortFrom(outside, 30001), Protocol: 6}}}
	set(nodes)
	n.wantNodePort(t, "one that it allows", true)
	nodes.Judged, nodes.Free = nil, []netip.Addr{pod}
	set(nodes)
	n.wantNodePort(t, "a pod without firewall", true)
	nodes.Free, nodes.Judged = nil, map[netip.Addr]string{pod: "blue"}
	set(nodes)
	n.wantNodePort(t, "another firewall", false)
	nodes.NodePorts = []firewallguard.NodePort{{Protocol: 17, Port: 30001}, {Protocol: 6, Port: 30002}}
	set(nodes)
	n.wantNodePort(t, "one that leads nowhere outside", true)
	nodes.Nodes, nodes.NodePorts = nil, []firewallguard.NodePort{{Protocol: 6, Port: 30001}}
	set(nodes)
	n.wantNodePort(t, "no node's", true)
	nodes.Nodes, nodes.Judged = []netip.Addr{outside}, judged.Judged
	set(nodes)
	for _, damage := range []string{
		"flush set ip damask_firewall nodes", "flush set ip damask_firewall ports", "flush chain ip damask_firewall judge",
		"flush chain ip damask_firewall forward", "delete table ip damask_firewall", "add element ip damask_firewall free { 10.128.0.2 }",
		"flush set ip damask_firewall allowed-red", "insert rule ip damask_firewall forward accept", "insert rule ip damask_firewall fw-red return",
		"add chain ip damask_firewall fw-blue", "add set ip damask_firewall allowed-blue { type ipv4_addr; }", "add map ip damask_firewall more { type ipv4_addr : verdict; }",
		"flush map ip damask_firewall pods", "flush map ip damask_firewall pods; add element ip damask_firewall pods { 10.128.0.2 : accept }",
		"flush chain ip damask_firewall refuse",
	} {
		n.Run(t, "nft", damage)
		if repairs := ensure(); len(repairs) == 0 {
			t.Errorf("%s: nothing is repaired", damage)
		}
		n.want(t, "after "+damage, true, false)
	}
}

// TestPodsOfOtherNodesAreLedOutsideByNobody is about those that leave by an egress IP of this
// node, and those that ask its gateway.
func TestPodsOfOtherNodesAreLedOutsideByNobody(t *testing.T) {
	n := start(t)
	if _, err := n.guard.Ensure(t.Context(), firewallguard.Config{Pods: netip.MustParsePrefix("10.128.0.0/23")}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name              string
		want              firewallguard.Wanted
		service, nodePort bool // whether they are led by a service, and reach another node's node port
	}{
		{"no node", firewallguard.Wanted{}, false, true},
		{"the endpoint is a node's", firewallguard.Wanted{Nodes: []netip.Addr{outside}}, true, true},
		{"a node that leads outside", firewallguard.Wanted{Nodes: []netip.Addr{outside}, NodePorts: []firewallguard.NodePort{{Protocol: 6, Port: 30001}}}, true, false},
	} {
		tc.want.Free = []netip.Addr{pod}
		if err := n.guard.Set(t.Context(), tc.want); err != nil {
			t.Fatal(err)
		}
		if !n.connectsFrom(t, stranger, "192.0.2.9:8081") {
			t.Errorf("%s: what is not translated is kept", tc.name)
		}
		if service, nodePort := n.connectsFrom(t, stranger, "172.30.0.1:80"), n.connectsFrom(t, stranger, "192.0.2.9:30001"); service != tc.service || nodePort != tc.nodePort {
			t.Errorf("%s: by a service %t, at a node port %t; want %t and %t", tc.name, service, nodePort, tc.service, tc.nodePort)
		}
		n.want(t, tc.name+": a pod of this node", true, true)
	}
}
