package egresspath

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/egressmark"
	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/internal/proctest"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/egressguard"
	"github.com/damask-sdn/damask/services/nodeagent/egresshost"
	"github.com/damask-sdn/damask/services/nodeagent/egressnode"
	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/link"
	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

const (
	mtu       = 1450
	outsideIP = "192.0.2.99"
)

var (
	cluster = []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")}
	vnids   = map[string]uint32{"red": 8583346, "blue": 42, "green": 42, "plain": 77}
)

func hostIP(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)}) }

func subnet(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(128 + i), 0, 0}), 23)
}

func nodeName(i int) string { return fmt.Sprintf("node%d", i) }

// userspace is false where the tests are told that there is the kernel module, as in
// the virtual machine of test/kernel.
func userspace() bool { return os.Getenv("DAMASK_DATAPATH") != bridge.SystemDatapath }

func patience(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// world is the nodes, a host outside, and the wire between all of them.
type world struct {
	wire, outside *netnstest.Namespace
	nodes         []*node
	seen          *witness
}

// node is one node with what runs on it.
type node struct {
	index  int
	mode   tenancyv1.IsolationMode
	ns     *netnstest.Namespace
	sw     *ovstest.Switch
	bridge *bridge.Bridge
	links  *link.Links
	*parts
}

// parts is what a process has: a restart makes them anew.
type parts struct {
	state   *intent.State
	program *intent.Programmer
	rules   *masquerade.Rules
	holder  *egressnode.Holder
	guard   *egressguard.Guard
	host    *egresshost.Host
	stop    func()

	mu        sync.Mutex
	confirmed uint64
	said      chan struct{} // closed and replaced when confirmed changes
}

// newWorld makes nodes that know one another, without egress IPs.
func newWorld(t *testing.T, nodes int) *world {
	t.Helper()
	return newWorldIn(t, nodes, multitenant)
}

func newWorldIn(t *testing.T, nodes int, mode tenancyv1.IsolationMode) *world {
	t.Helper()
	proctest.Need(t, "ip", "nft", "iptables", "ethtool", "sysctl", "conntrack")
	w := &world{wire: netnstest.New(t, "wire"), outside: netnstest.New(t, "outside")}
	w.wire.Run(t, "ip", "link", "add", "wire", "type", "bridge")
	w.wire.Run(t, "ip", "link", "set", "wire", "up")
	plug := func(ns *netnstest.Namespace, port string) {
		w.wire.Connect(t, port, ns, "eth0")
		w.wire.Run(t, "ip", "link", "set", port, "master", "wire", "up")
	}
	plug(w.outside, "out")
	w.outside.Run(t, "sh", "-e", "-c", "ip address add "+outsideIP+"/24 dev eth0; ip link set eth0 up; ethtool -K eth0 tx off >/dev/null")
	w.seen = watch(t, w.outside)
	for i := range nodes {
		n := &node{index: i, mode: mode, ns: netnstest.New(t, nodeName(i))}
		plug(n.ns, nodeName(i))
		n.underlay(t)
		w.nodes = append(w.nodes, n)
	}
	for _, n := range w.nodes {
		n.links = open(t, func() (*link.Links, error) {
			return link.Open(link.Config{Namespace: n.ns.Path(), Userspace: userspace()})
		})
		n.start(t, len(w.nodes))
		n.plumb(t)
	}
	for _, n := range w.nodes {
		n.meet(t, len(w.nodes))
	}
	return w
}

// open opens what the test closes.
func open[T interface{ Close() error }](t *testing.T, fn func() (T, error)) T {
	t.Helper()
	it, err := fn()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = it.Close() })
	return it
}

// underlay gives the node a switch and its address, as servicepath does.
func (n *node) underlay(t *testing.T) {
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
	n.ns.Run(t, "sh", "-e", "-c", `
		ip link set eth0 up
		ip link set `+device+` up
		ip address add `+netip.PrefixFrom(hostIP(n.index), 24).String()+` dev `+device+`
		sysctl -q -w net.ipv4.ip_forward=1
		iptables -P FORWARD DROP
		iptables -P INPUT DROP
		iptables -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
		iptables -A INPUT -p tcp --dport 22 -j ACCEPT`)
}

// start is a new process of the node's agent: it knows the cluster, and nothing of
// egress.
func (n *node) start(t *testing.T, nodes int) {
	t.Helper()
	p := &parts{said: make(chan struct{})}
	n.parts = p
	p.state = intent.NewState(nodeName(n.index), userspace())
	n.bridge = bridge.New(bridge.Config{Database: "unix:" + n.sw.DBSocket()}, hclog.NewNullLogger())
	flows := flowsync.New(flowsync.Config{Socket: n.sw.MgmtSocket("br0"), Fragments: openflow.FragmentsNXMatch}, hclog.NewNullLogger())
	p.program = intent.NewProgrammer(p.state, flows, hclog.NewNullLogger())
	n.learn(t, nodes)
	p.state.FollowEgress(egressmark.Reserved{})
	n.ns.Do(t, func() {
		var err error
		if p.rules, err = masquerade.New(); err != nil {
			t.Fatal(err)
		}
	})
	p.holder = open(t, func() (*egressnode.Holder, error) {
		return egressnode.Open(egressnode.Config{Namespace: n.ns.Path(), NodeIP: hostIP(n.index)}, hclog.NewNullLogger())
	})
	p.guard = open(t, func() (*egressguard.Guard, error) { return egressguard.Open(n.ns.Path()) })
	p.host = egresshost.New(egresshost.Config{
		Rules: inside{t, n}, Addresses: p.holder, Guard: p.guard, Flows: leads{n}, Confirm: p.confirm, Log: hclog.NewNullLogger(),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, part := range []func(context.Context) error{n.bridge.Run, flows.Run, p.program.Run, p.host.Run, p.holder.Run} {
		running.Go(func() { _ = part(ctx) })
	}
	p.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(p.stop)
}

// learn tells the node of the cluster.
func (n *node) learn(t *testing.T, nodes int) {
	t.Helper()
	_, err := n.state.SetClusterNetwork(&ipamv1.ClusterNetwork{
		Name: "default", Networks: []*ipamv1.ClusterNetworkEntry{{Cidr: cluster[0].String(), HostSubnetLength: 9}},
		ServiceNetworks: []string{"172.30.0.0/16"}, Revision: 1,
	})
	if err == nil {
		_, err = n.state.SetIsolation(&tenancyv1.Isolation{Mode: n.mode, Revision: 1})
	}
	for i := range nodes {
		if err == nil {
			_, err = n.state.SetHostSubnet(&ipamv1.HostSubnet{
				Name: nodeName(i), HostIps: []string{hostIP(i).String()}, Subnets: []string{subnet(i).String()}, Revision: 1,
			})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	for namespace, vnid := range vnids {
		n.state.SetNetNamespace(&tenancyv1.NetNamespace{Name: namespace, Netid: vnid, Revision: 1})
	}
}

// plumb makes bridge, tun0, the fixed rules, the guard and the flows: a pass of the agent.
func (n *node) plumb(t *testing.T) (diff flowsync.Diff, repairs []string) {
	t.Helper()
	network, _ := n.state.Network()
	ctx := patience(t)
	datapath := bridge.UserspaceDatapath
	if !userspace() {
		datapath = bridge.SystemDatapath
	}
	took := func(lines []string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		repairs = append(repairs, lines...)
	}
	took(n.bridge.EnsureBridge(ctx, bridge.Spec{
		DatapathType: datapath, Tunnel: bridge.Tunnel{Type: bridge.VXLAN, Port: 4789}, MTU: mtu, GatewayMAC: network.Node.GatewayMAC(),
	}))
	took(n.links.EnsureGateway(ctx, link.Gateway{
		Device: bridge.GatewayPort, Bridge: "br0", Address: netip.PrefixFrom(network.Node.Gateway, subnet(n.index).Bits()),
		ClusterNetworks: cluster, ServiceNetworks: network.Node.ServiceNetworks, MTU: mtu,
	}))
	if userspace() {
		if err := n.links.Quarantine("eth0"); err != nil {
			t.Fatal(err)
		}
	}
	n.ns.Do(t, func() {
		took(n.rules.Ensure(ctx, masquerade.Config{
			ClusterNetworks: cluster, ServiceNetworks: network.Node.ServiceNetworks, TunnelPort: 4789, Userspace: userspace(),
		}))
	})
	took(n.guard.Ensure(ctx, egressguard.Config{ClusterNetworks: cluster, Userspace: userspace()}))
	// The connection to the switch is made in the background, as soon as br0 is there.
	var err error
	for err = flowsync.ErrUnavailable; err != nil; {
		if diff, err = n.program.Reconcile(ctx); ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	took(n.host.Audit(ctx))
	n.host.Wake()
	return diff, repairs
}

// meet asks the other nodes for their hardware addresses.
func (n *node) meet(t *testing.T, nodes int) {
	t.Helper()
	var all []netip.Addr
	for i := range nodes {
		all = append(all, hostIP(i))
	}
	underlay, err := n.links.FindUnderlay(patience(t), hostIP(n.index))
	if err == nil {
		err = n.links.AskNeighbours(patience(t), underlay, all)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// inside runs iptables in the node.
type inside struct {
	t *testing.T
	n *node
}

func (i inside) SetEgress(ctx context.Context, ips []masquerade.EgressIP) (repairs []string, err error) {
	i.n.ns.Do(i.t, func() { repairs, err = i.n.rules.SetEgress(ctx, ips) })
	return repairs, err
}

// leads is what the agent's own does.
type leads struct{ n *node }

func (l leads) Lead(ctx context.Context, revision uint64, ready []*egressv1.HostedAddress) error {
	change, err := l.n.state.SetEgressHosting(revision, ready)
	if err != nil {
		return err
	}
	change.All = true // also what was told before the switch was there
	if err := l.n.program.Program(ctx, change); err != nil {
		return egresshost.ErrSwitchAway
	}
	return nil
}

func (l leads) Failed(_ uint64, err error) {
	l.n.program.Refuse(intent.Object{Kind: intent.KindEgressHosting, Name: nodeName(l.n.index)}, err)
}

func (p *parts) confirm(revision uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.confirmed = revision
	close(p.said)
	p.said = make(chan struct{})
}

// want tells the node what to host.
func (n *node) want(revision uint64, addresses ...*egressv1.HostedAddress) {
	n.host.Want(&egressv1.EgressHosting{Node: nodeName(n.index), Revision: revision, Addresses: addresses})
}

// hosts has the node host exactly these, and waits until it has said so and packets are
// led there.
func (n *node) hosts(t *testing.T, revision uint64, addresses ...*egressv1.HostedAddress) {
	t.Helper()
	n.want(revision, addresses...)
	n.awaitConfirmed(t, revision)
}

// awaitConfirmed waits until the node has said that it gave up what it has to.
func (n *node) awaitConfirmed(t *testing.T, revision uint64) {
	t.Helper()
	for ctx := patience(t); ; {
		n.mu.Lock()
		confirmed, said := n.confirmed, n.said
		n.mu.Unlock()
		if confirmed >= revision {
			return
		}
		select {
		case <-said:
		case <-ctx.Done():
			t.Fatalf("%s has not confirmed revision %d", nodeName(n.index), revision)
		}
	}
}

// leave tells a node how a namespace leaves: "default" or a selection's name, with
// addresses "IP@NODE", of which none is one without a host.
func (n *node) leave(t *testing.T, namespace string, assignments ...*egressv1.EgressAssignment) {
	t.Helper()
	change, err := n.state.SetEgress(namespace, 1, assignments)
	if err == nil {
		err = n.program.Program(patience(t), change)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// hosted is an address of a namespace.
func hosted(ip, namespace string, slot uint32) *egressv1.HostedAddress {
	return &egressv1.HostedAddress{Ip: ip, Namespace: namespace, Selection: "default", Netid: vnids[namespace], Slot: slot}
}

func assignments(namespace string, at map[string]int) []*egressv1.EgressAssignment {
	return []*egressv1.EgressAssignment{by(namespace, at)}
}

// by is the assignment of a namespace, to addresses and the nodes that have them.
func by(namespace string, at map[string]int) *egressv1.EgressAssignment {
	vnid := vnids[namespace]
	a := &egressv1.EgressAssignment{Namespace: namespace, Selection: "default", Netid: &vnid}
	for ip, node := range at {
		told := &egressv1.AssignedAddress{Ip: ip, State: egressv1.AddressState_ADDRESS_STATE_UNHOSTED}
		if node >= 0 {
			told.State, told.Node, told.NodeIp = egressv1.AddressState_ADDRESS_STATE_HOSTED, nodeName(node), hostIP(node).String()
		}
		a.Addresses = append(a.Addresses, told)
	}
	slices.SortFunc(a.Addresses, func(x, y *egressv1.AssignedAddress) int {
		return netip.MustParseAddr(x.GetIp()).Compare(netip.MustParseAddr(y.GetIp()))
	})
	return a
}
