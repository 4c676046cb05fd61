package servicepath

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/internal/proctest"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/link"
	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/iptables"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/nftables"
)

const mtu = 1450

// The two nodes.
var (
	hosts   = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
	subnets = []netip.Prefix{netip.MustParsePrefix("10.128.0.0/23"), netip.MustParsePrefix("10.129.0.0/23")}
)

var clusterNetworks = []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")}

// vnids of the namespaces. default is VNID 0, whom everybody reaches.
var vnids = map[string]uint32{"default": 0, "shop": 1001, "bank": 1002}

// node is one node with what runs on it.
type node struct {
	name     string
	ns       *netnstest.Namespace
	sw       *ovstest.Switch
	bridge   *bridge.Bridge
	links    *link.Links
	state    *intent.State
	program  *intent.Programmer
	flows    *flowsync.Syncer
	forget   func() // ends what thinks
	engine   proxy.Engine
	subnet   netip.Prefix
	services proxy.State
	told     map[string]bool // Names of policies.
	seen     []intent.Service
}

// pod is a pod with its address.
type pod struct {
	namespace, name string
	node            *node
	seen            intent.Pod // As the node has it.

	ns     *netnstest.Namespace
	ip     netip.Addr
	server socket // By UDP; once it serves.
}

// engines are both, by name.
var engines = map[string]func(t testing.TB, n proxy.Node) proxy.Engine{
	"iptables": func(t testing.TB, n proxy.Node) proxy.Engine {
		e, err := iptables.New(n, iptables.DefaultProgram)
		if err != nil {
			t.Fatal(err)
		}
		return e
	},
	"nftables": func(t testing.TB, n proxy.Node) proxy.Engine {
		e, err := nftables.New(n)
		if err != nil {
			t.Fatal(err)
		}
		return e
	},
}

// userspace is false where the tests are told that there is the kernel module, as in
// the virtual machine of test/kernel.
func userspace() bool { return os.Getenv("DAMASK_DATAPATH") != bridge.SystemDatapath }

func patience(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// newCluster makes two nodes that know one another.
func newCluster(t testing.TB, engine string, multitenant bool) []*node {
	t.Helper()
	mode := tenancyv1.IsolationMode_ISOLATION_MODE_SUBNET
	if multitenant {
		mode = tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT
	}
	return newClusterIn(t, engine, mode)
}

// newClusterIn is newCluster in any isolation mode.
func newClusterIn(t testing.TB, engine string, mode tenancyv1.IsolationMode) []*node {
	t.Helper()
	proctest.Need(t, "ip", "nft", "iptables", "ethtool", "sysctl")
	var nodes []*node
	for i := range hosts {
		name := fmt.Sprintf("node%d", i)
		nodes = append(nodes, &node{name: name, ns: netnstest.New(t, name), subnet: subnets[i], services: proxy.State{}})
	}
	nodes[0].ns.Connect(t, "eth0", nodes[1].ns, "eth0")
	for i, n := range nodes {
		n.underlay(t, hosts[i])
	}
	for _, n := range nodes {
		n.open(t)
		n.learn(t, mode)
		n.plumb(t)
		n.ns.Do(t, func() { n.engine = engines[engine](t, proxy.Node{ClusterNetworks: clusterNetworks, Pods: n.subnet}) })
		n.sync(t)
	}
	for i, n := range nodes {
		n.meet(t, hosts[i])
	}
	return nodes
}

// underlay gives the node a switch and its address: on the userspace datapath to a
// bridge of its own, by which it finds the way of tunnel packets.
func (n *node) underlay(t testing.TB, host netip.Addr) {
	t.Helper()
	n.sw = ovstest.Start(t, ovstest.Options{Namespace: n.ns, Datapath: ovstest.Netdev})
	device := "eth0"
	if userspace() {
		device = "br-phy"
		n.sw.Vsctl(t, "add-br", "br-phy", "--", "set", "Bridge", "br-phy", "datapath_type=netdev", "fail_mode=standalone",
			"--", "add-port", "br-phy", "eth0")
		n.ns.Run(t, "ethtool", "-K", "eth0", "tx", "off")
		n.ns.Run(t, "ethtool", "-K", "br-phy", "tx", "off")
	}
	// As strict as a node can be: nothing but our own rules lets a packet through.
	n.ns.Run(t, "sh", "-e", "-c", `
		ip link set eth0 up
		ip link set `+device+` up
		ip address add `+netip.PrefixFrom(host, 24).String()+` dev `+device+`
		for name in all default `+device+`; do sysctl -q -w net.ipv4.conf.$name.rp_filter=1; done
		iptables -P FORWARD DROP
		iptables -P INPUT DROP
		iptables -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT`)
}

// open opens the agent's parts.
func (n *node) open(t testing.TB) {
	t.Helper()
	var err error
	if n.links, err = link.Open(link.Config{Namespace: n.ns.Path(), Userspace: userspace()}); err != nil {
		t.Fatal(err)
	}
	n.bridge = bridge.New(bridge.Config{Database: "unix:" + n.sw.DBSocket()}, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = n.bridge.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		_ = n.links.Close()
	})
	n.think()
	t.Cleanup(func() { n.forget() })
}

// think opens the part of the agent that knows what should be, which can end alone.
func (n *node) think() {
	n.flows = flowsync.New(flowsync.Config{Socket: n.sw.MgmtSocket("br0"), Fragments: openflow.FragmentsNXMatch}, hclog.NewNullLogger())
	n.state = intent.NewState(n.ns.Name(), userspace())
	n.program = intent.NewProgrammer(n.state, n.flows, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = n.flows.Run(ctx) })
	n.forget = func() {
		cancel()
		running.Wait()
	}
}

// learn tells the node of the cluster.
func (n *node) learn(t testing.TB, mode tenancyv1.IsolationMode) {
	t.Helper()
	_, err := n.state.SetClusterNetwork(&ipamv1.ClusterNetwork{
		Name: "default", Networks: []*ipamv1.ClusterNetworkEntry{{Cidr: clusterNetworks[0].String(), HostSubnetLength: 9}},
		ServiceNetworks: []string{"172.30.0.0/16"}, Revision: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.state.SetIsolation(&tenancyv1.Isolation{Mode: mode, Revision: 1}); err != nil {
		t.Fatal(err)
	}
	for i := range hosts {
		subnet := &ipamv1.HostSubnet{Name: fmt.Sprintf("node%d", i), HostIps: []string{hosts[i].String()}, Subnets: []string{subnets[i].String()}, Revision: 1}
		if _, err := n.state.SetHostSubnet(subnet); err != nil {
			t.Fatal(err)
		}
	}
	for namespace, vnid := range vnids {
		n.state.SetNetNamespace(&tenancyv1.NetNamespace{Name: namespace, Netid: vnid, Revision: 1})
	}
}

// plumb makes bridge, tun0, the fixed rules and the flows.
func (n *node) plumb(t testing.TB) {
	t.Helper()
	network, known := n.state.Network()
	if !known {
		t.Fatalf("%s does not know its network: %v", n.ns.Name(), n.state.Missing())
	}
	ctx := patience(t)
	datapath := bridge.UserspaceDatapath
	if !userspace() {
		datapath = bridge.SystemDatapath
	}
	_, err := n.bridge.EnsureBridge(ctx, bridge.Spec{
		DatapathType: datapath, Tunnel: bridge.Tunnel{Type: bridge.VXLAN, Port: 4789}, MTU: mtu,
		GatewayMAC: network.Node.GatewayMAC(),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = n.links.EnsureGateway(ctx, link.Gateway{
		Device: bridge.GatewayPort, Bridge: "br0", Address: netip.PrefixFrom(network.Node.Gateway, n.subnet.Bits()),
		ClusterNetworks: clusterNetworks, ServiceNetworks: network.Node.ServiceNetworks, MTU: mtu,
	})
	if err != nil {
		t.Fatal(err)
	}
	if userspace() {
		if err := n.links.Quarantine("eth0"); err != nil {
			t.Fatal(err)
		}
	}
	n.ns.Do(t, func() {
		rules, err := masquerade.New()
		if err == nil {
			_, err = rules.Ensure(ctx, masquerade.Config{
				ClusterNetworks: clusterNetworks, ServiceNetworks: network.Node.ServiceNetworks, TunnelPort: 4789,
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	// The connection to the switch is made in the background, as soon as br0 is there.
	for err = flowsync.ErrUnavailable; err != nil; {
		if _, err = n.program.Reconcile(ctx); ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// meet asks the other node for its hardware address.
func (n *node) meet(t testing.TB, host netip.Addr) {
	t.Helper()
	underlay, err := n.links.FindUnderlay(patience(t), host)
	if err == nil {
		err = n.links.AskNeighbours(patience(t), underlay, hosts)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// addPod attaches a pod to the node, with this last byte of its address.
func (n *node) addPod(t testing.TB, namespace, name string, last byte) *pod {
	t.Helper()
	base := n.subnet.Addr().As4()
	base[3] = last
	p := &pod{namespace: namespace, name: name, node: n, ns: netnstest.New(t, namespace+"/"+name), ip: netip.AddrFrom4(base)}
	network, _ := n.state.Network()
	veth := fmt.Sprintf("veth%08x", last)
	_, err := n.links.EnsurePod(patience(t), link.Pod{
		Netns: p.ns.Path(), Interface: "eth0", HostVeth: veth, Address: netip.PrefixFrom(p.ip, n.subnet.Bits()),
		Gateway: network.Node.Gateway, ClusterNetworks: clusterNetworks, MTU: mtu,
	})
	if err != nil {
		t.Fatal(err)
	}
	port, err := n.bridge.AddPort(patience(t), bridge.Port{Name: veth})
	if err != nil {
		t.Fatal(err)
	}
	p.seen = intent.Pod{Namespace: namespace, Name: name, Sandbox: name, Ifname: "eth0", IP: p.ip, Port: port}
	change := n.state.AddPod(p.seen)
	if err := n.program.Program(patience(t), change); err != nil {
		t.Fatal(err)
	}
	return p
}

// addService gives all nodes a service with backends, by TCP and UDP.
func addService(t testing.TB, nodes []*node, namespace, name, address string, port uint16, backends ...netip.AddrPort) {
	t.Helper()
	ip := []netip.Addr{netip.MustParseAddr(address)}
	for _, n := range nodes {
		var list []proxy.Backend
		for _, b := range backends {
			list = append(list, proxy.Backend{Addr: b.Addr(), Port: b.Port(), Local: n.subnet.Contains(b.Addr())})
		}
		seen := intent.Service{Namespace: namespace, Name: name, ClusterIPs: ip}
		for _, protocol := range []proxy.Protocol{proxy.TCP, proxy.UDP} {
			key := proxy.Key{Namespace: namespace, Name: name, PortName: strings.ToLower(string(protocol)), Protocol: protocol}
			n.services[key] = proxy.Service{Key: key, ClusterIPs: ip, Port: port, ClusterBackends: list, ExternalBackends: list}
			seen.Ports = append(seen.Ports, pipeline.ServicePort{Protocol: pipeline.Protocol(protocol), Port: port})
		}
		n.seen = append(n.seen, seen)
		if err := n.program.Program(patience(t), n.state.SetService(seen)); err != nil {
			t.Fatal(err)
		}
		n.sync(t)
	}
}

// sync programs the node's services.
func (n *node) sync(t testing.TB) {
	t.Helper()
	var err error
	n.ns.Do(t, func() { _, err = n.engine.Sync(patience(t), n.services) })
	if err != nil {
		t.Fatal(err)
	}
}
