package link_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/link"
	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
)

const (
	nodeIP    = "192.0.2.10"
	outsideIP = "192.0.2.99"
	gatewayIP = "10.130.0.1"
)

var clusterNetworks = []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")}

// world is a node with its switch, an outside host, and pods, all by the node's own
// code: bridge, link and masquerade. Only the flows are written by hand.
type world struct {
	node, outside *netnstest.Namespace
	sw            *ovstest.Switch
	bridge        *bridge.Bridge
	links         *link.Links
	pods          map[string]*netnstest.Namespace
	numbers       map[string]uint32
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{node: netnstest.New(t, "node"), outside: netnstest.New(t, "outside"),
		pods: map[string]*netnstest.Namespace{}, numbers: map[string]uint32{}}
	w.sw = ovstest.Start(t, ovstest.Options{Namespace: w.node, Datapath: ovstest.Netdev})
	w.node.Connect(t, "eth0", w.outside, "eth0")
	for ns, ip := range map[*netnstest.Namespace]string{w.node: nodeIP, w.outside: outsideIP} {
		ns.Run(t, "ip", "address", "add", ip+"/24", "dev", "eth0")
		ns.Run(t, "ip", "link", "set", "eth0", "up")
	}
	w.bridge = bridge.New(bridge.Config{Database: "unix:" + w.sw.DBSocket()}, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.bridge.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	w.ensure(t)
	return w
}

// ensure makes everything of the node but its pods.
func (w *world) ensure(t *testing.T) {
	t.Helper()
	var err error
	if w.links == nil {
		if w.links, err = link.Open(link.Config{Namespace: w.node.Path(), Userspace: true}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.links.Close() })
	}
	spec := bridge.Spec{DatapathType: bridge.UserspaceDatapath, MTU: 1450,
		Tunnel: bridge.Tunnel{Type: bridge.VXLAN, Port: 4789}}
	if _, err := w.bridge.EnsureBridge(w.context(t), spec); err != nil {
		t.Fatal(err)
	}
	gateway := link.Gateway{Device: bridge.GatewayPort, Bridge: "br0", MTU: 1450, ClusterNetworks: clusterNetworks,
		Address:         netip.MustParsePrefix(gatewayIP + "/23"),
		ServiceNetworks: []netip.Prefix{netip.MustParsePrefix("172.30.0.0/16")}}
	if _, err := w.links.EnsureGateway(w.context(t), gateway); err != nil {
		t.Fatal(err)
	}
}

func (w *world) context(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// addPod attaches a pod. No flow lets it talk yet.
func (w *world) addPod(t *testing.T, ip string) *netnstest.Namespace {
	t.Helper()
	ns := netnstest.New(t, ip)
	veth := link.HostVeth(ip, "eth0")
	_, err := w.links.EnsurePod(w.context(t), link.Pod{Netns: ns.Path(), Interface: "eth0", HostVeth: veth,
		Address: netip.PrefixFrom(netip.MustParseAddr(ip), 23), Gateway: netip.MustParseAddr(gatewayIP),
		ClusterNetworks: clusterNetworks, MTU: 1450})
	if err != nil {
		t.Fatal(err)
	}
	number, err := w.bridge.AddPort(w.context(t), bridge.Port{Name: veth})
	if err != nil {
		t.Fatal(err)
	}
	w.pods[ip], w.numbers[ip] = ns, number
	return ns
}

// flows sends frames to pods by their addresses and everything else to tun0.
func (w *world) flows(t *testing.T) {
	t.Helper()
	for ip, number := range w.numbers {
		w.sw.Ofctl(t, "add-flow", "br0", fmt.Sprintf("priority=9,ip,nw_dst=%s,actions=output:%d", ip, number))
		w.sw.Ofctl(t, "add-flow", "br0", fmt.Sprintf("priority=9,arp,arp_tpa=%s,actions=output:%d", ip, number))
	}
	w.sw.Ofctl(t, "add-flow", "br0", "priority=1,in_port=2,actions=drop")
	w.sw.Ofctl(t, "add-flow", "br0", "priority=0,actions=output:2")
}

// pings says whether an answer comes. It tries some times: an address that was asked
// for in vain just before stays unreachable for up to three seconds.
func pings(from *netnstest.Namespace, to string, more ...string) bool {
	for range 10 {
		if from.Command("ping", append([]string{"-c", "1", "-W", "1", to}, more...)...).Run() == nil {
			return true
		}
	}
	return false
}

// silent says whether no answer comes to any of some packets.
func silent(from *netnstest.Namespace, to string) bool {
	return from.Command("ping", "-c", "3", "-i", "0.2", "-W", "1", to).Run() != nil
}

func TestPacketsPassThroughTheFlowsAndNotAroundThem(t *testing.T) {
	proctest.Need(t, "ping")
	w := newWorld(t)
	a, b := w.addPod(t, "10.130.0.5"), w.addPod(t, "10.130.0.6")
	if !silent(a, "10.130.0.6") || !silent(a, gatewayIP) {
		t.Error("packets pass without any flow")
	}
	w.flows(t)
	for _, p := range []struct {
		name string
		from *netnstest.Namespace
		to   string
	}{{"pod to pod", a, "10.130.0.6"}, {"back", b, "10.130.0.5"}, {"pod to gateway", a, gatewayIP}, {"node to pod", w.node, "10.130.0.5"}} {
		if !pings(p.from, p.to) {
			t.Errorf("%s: no answer", p.name)
		}
	}
	if !pings(a, "10.130.0.6", "-s", "1422", "-M", "do") {
		t.Error("a packet of the full MTU does not pass")
	}
	w.sw.Ofctl(t, "del-flows", "br0")
	if !silent(a, "10.130.0.6") || !silent(w.node, "10.130.0.5") {
		t.Error("packets pass around the flows")
	}
}

func TestWithoutQuarantinePacketsWouldPassAroundTheFlows(t *testing.T) {
	proctest.Need(t, "ping")
	w := newWorld(t)
	a := w.addPod(t, "10.130.0.5")
	veth := link.HostVeth("10.130.0.5", "eth0")
	if err := w.links.Release(veth); err != nil {
		t.Fatal(err)
	}
	if silent(a, gatewayIP) && !hasNeighbour(t, a) {
		t.Skip("this kernel does not answer on switch ports by itself, so the quarantine has nothing to prove")
	}
	if err := w.links.Quarantine(veth); err != nil {
		t.Fatal(err)
	}
	a.Run(t, "ip", "neighbour", "flush", "dev", "eth0")
	if !silent(a, gatewayIP) || hasNeighbour(t, a) {
		t.Error("the node's kernel answers in spite of the quarantine")
	}
}

// hasNeighbour says whether the pod learned the gateway's MAC address.
func hasNeighbour(t *testing.T, pod *netnstest.Namespace) bool {
	t.Helper()
	return strings.Contains(pod.Run(t, "ip", "neighbour", "show", gatewayIP), "lladdr")
}

// serve starts a TCP server that tells every client the client's address, and waits
// until it listens. It answers the function that asks it.
func serve(t *testing.T, ns *netnstest.Namespace, address string) (ask func(from *netnstest.Namespace) string) {
	t.Helper()
	listener := listen(t, ns, address)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			host, _, _ := strings.Cut(conn.RemoteAddr().String(), ":")
			// Far more than one segment, so that segmentation is tested as well.
			_, _ = conn.Write([]byte(host + "\n" + strings.Repeat("x", 1<<20)))
			_ = conn.Close()
		}
	}()
	return func(from *netnstest.Namespace) string {
		t.Helper()
		said, err := fetch(t, from, listener.Addr().String())
		if err != nil {
			t.Errorf("ask %s from %s: %v", listener.Addr(), from.Name(), err)
			return ""
		}
		line, rest, _ := strings.Cut(said, "\n")
		if len(rest) != 1<<20 {
			t.Errorf("ask %s from %s: %d bytes arrived", listener.Addr(), from.Name(), len(rest))
		}
		return line
	}
}

func TestTCPPassesAndOnlyWhatLeavesTheClusterIsMasqueraded(t *testing.T) {
	proctest.Need(t, "ping", "iptables", "conntrack")
	for _, strict := range []string{"0", "1"} {
		t.Run("rp_filter "+strict, func(t *testing.T) {
			w := newWorld(t)
			for _, name := range []string{"all", "tun0", "eth0"} {
				w.node.Run(t, "sysctl", "-w", "net.ipv4.conf."+name+".rp_filter="+strict)
			}
			// As strict as a firewall can be: only our own rules let anything through.
			w.node.Run(t, "iptables", "-P", "FORWARD", "DROP")
			w.node.Run(t, "iptables", "-P", "INPUT", "DROP")
			w.node.Run(t, "iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT")
			a, b := w.addPod(t, "10.130.0.5"), w.addPod(t, "10.130.0.6")
			w.flows(t)
			w.node.Do(t, func() {
				rules, err := masquerade.New()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := rules.Ensure(w.context(t), masquerade.Config{ClusterNetworks: clusterNetworks,
					ServiceNetworks: []netip.Prefix{netip.MustParsePrefix("172.30.0.0/16")}, TunnelPort: 4789}); err != nil {
					t.Fatal(err)
				}
			})
			askPod := serve(t, b, "10.130.0.6:0")
			if got := askPod(a); got != "10.130.0.5" {
				t.Errorf("pod sees a pod as %q", got)
			}
			if got := askPod(w.node); got != gatewayIP {
				t.Errorf("pod sees the node as %q", got)
			}
			if got := serve(t, w.outside, outsideIP+":0")(a); got != nodeIP {
				t.Errorf("outside sees a pod as %q", got)
			}
			if got := serve(t, w.node, nodeIP+":0")(a); got != "10.130.0.5" {
				t.Errorf("the node sees a pod as %q", got)
			}
			w.outside.Run(t, "ip", "route", "add", "10.130.0.0/23", "via", nodeIP)
			if got := askPod(w.outside); got != outsideIP {
				t.Errorf("pod sees outside as %q", got)
			}
		})
	}
}

func TestServiceTrafficKeepsThePodsAddress(t *testing.T) {
	proctest.Need(t, "iptables", "tcpdump")
	w := newWorld(t)
	a := w.addPod(t, "10.130.0.5")
	w.flows(t)
	w.node.Do(t, func() {
		rules, err := masquerade.New()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rules.Ensure(w.context(t), masquerade.Config{ClusterNetworks: clusterNetworks,
			ServiceNetworks: []netip.Prefix{netip.MustParsePrefix("172.30.0.0/16")}, TunnelPort: 4789}); err != nil {
			t.Fatal(err)
		}
	})
	// No proxy has a rule for the address: the kernel routes it back into tun0, where
	// the masquerade rules see it. The counters of the rules tell which one took it.
	_ = silent(a, "172.30.0.10")
	counters := w.node.Run(t, "iptables", "-t", "nat", "-v", "-n", "-L", "OPENSHIFT-MASQUERADE")
	for _, line := range strings.Split(counters, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 9 || fields[0] == "pkts" {
			continue
		}
		if strings.Contains(line, "172.30.0.0/16") && fields[0] == "0" {
			t.Errorf("the rule for services was not met:\n%s", counters)
		}
		if fields[2] == "MASQUERADE" && fields[0] != "0" {
			t.Errorf("service traffic was masqueraded:\n%s", counters)
		}
	}
}
