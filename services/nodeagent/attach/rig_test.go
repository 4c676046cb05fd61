package attach_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/internal/rpcerr"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/attach"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/cnisocket"
	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
	"github.com/damask-sdn/damask/services/nodeagent/link"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// plan is the network of the tests, as in the observed clusters.
var plan = pipeline.Node{
	ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")},
	ServiceNetworks: []netip.Prefix{netip.MustParsePrefix("172.30.0.0/16")},
	Subnet:          netip.MustParsePrefix("10.130.0.0/23"),
	Gateway:         netip.MustParseAddr("10.130.0.1"),
	HostIP:          netip.MustParseAddr("192.168.108.112"),
	TunnelPort:      4789,
	Mode:            pipeline.Multitenant,
}

const mtu = 1450

// tenants are the namespaces that exist.
var tenants = map[string]uint32{"shop": 1001, "bank": 1002}

// place says where a server finds its parts; it travels to a server in a
// process of its own.
type place struct {
	Leases    string
	Database  string
	Mgmt      string
	Namespace string
	Socket    string
}

// parts are the real parts of a server.
type parts struct {
	leases     *lease.Store
	bridge     *bridge.Bridge
	links      *link.Links
	programmer *programmer
	stop       func() error
}

func openParts(ctx context.Context, p place) (*parts, error) {
	store, err := lease.Open(p.Leases)
	if err != nil {
		return nil, err
	}
	links, err := link.Open(link.Config{Namespace: p.Namespace, Userspace: true})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	br := bridge.New(bridge.Config{Database: "unix:" + p.Database}, hclog.NewNullLogger())
	flows := flowsync.New(flowsync.Config{Socket: p.Mgmt}, hclog.NewNullLogger())
	var running sync.WaitGroup
	running.Go(func() { _ = br.Run(ctx) })
	running.Go(func() { _ = flows.Run(ctx) })
	return &parts{
		leases: store, bridge: br, links: links, programmer: &programmer{flows},
		stop: func() error {
			cancel()
			running.Wait()
			return errors.Join(links.Close(), store.Close())
		},
	}, nil
}

// server puts a server together; change may replace parts by failing ones.
func (p *parts) server(change func(*attach.Parts)) *attach.Server {
	all := attach.Parts{
		Leases: p.leases, Site: site{}, Ports: p.bridge, Links: p.links,
		Programmer: p.programmer, Names: directory{}, Registry: &reports{},
	}
	if change != nil {
		change(&all)
	}
	return attach.New(all, hclog.NewNullLogger())
}

// node is a switch in a network namespace with br0 and everything that every
// node has, and a server's parts on it.
type node struct {
	*parts
	place place
	ns    *netnstest.Namespace
	sw    *ovstest.Switch
}

func newNode(t testing.TB) *node {
	t.Helper()
	proctest.Need(t, "ping")
	ns := netnstest.New(t, "node")
	sw := ovstest.Start(t, ovstest.Options{Namespace: ns, Datapath: ovstest.Netdev})
	dir := t.TempDir()
	n := &node{ns: ns, sw: sw, place: place{
		Leases: filepath.Join(dir, "leases"), Database: sw.DBSocket(), Mgmt: sw.MgmtSocket(bridge.DefaultName),
		Namespace: ns.Path(), Socket: filepath.Join(dir, "run", "cni.sock"),
	}}
	var err error
	if n.parts, err = openParts(context.WithoutCancel(t.Context()), n.place); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.stop(); err != nil {
			t.Error(err)
		}
	})
	_, err = n.bridge.EnsureBridge(t.Context(), bridge.Spec{
		DatapathType: bridge.UserspaceDatapath, Tunnel: bridge.Tunnel{Type: bridge.VXLAN, Port: 4789}, MTU: mtu,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.programmer.compare(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return n
}

// restart is what the agent's restart is for the parts.
func (n *node) restart(t testing.TB) {
	t.Helper()
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	n.reopen(t)
}

// reopen opens the parts after stop.
func (n *node) reopen(t testing.TB) {
	t.Helper()
	var err error
	if n.parts, err = openParts(context.WithoutCancel(t.Context()), n.place); err != nil {
		t.Fatal(err)
	}
}

// expectNothing checks that no lease, port, veth, quarantine or flow of a pod is
// left on the node.
func (n *node) expectNothing(t testing.TB) {
	t.Helper()
	for _, l := range n.leases.List() {
		t.Errorf("lease left over: %v", l.Attachment)
	}
	ports, err := n.bridge.Ports(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ports {
		t.Errorf("port left over: %+v", p)
	}
	if veths := n.ns.Run(t, "ip", "-o", "link", "show", "type", "veth"); veths != "" {
		t.Errorf("veths left over:\n%s", veths)
	}
	quarantined, err := n.links.Quarantined()
	if err != nil {
		t.Fatal(err)
	}
	if len(quarantined) > 0 {
		t.Errorf("still in quarantine: %v", quarantined)
	}
	if flows := n.sw.Ofctl(t, "dump-flows", "br0", "table=70"); strings.Contains(flows, "nw_dst=") {
		t.Errorf("flows left over:\n%s", flows)
	}
}

// pod is a sandbox: a network namespace and a name.
type pod struct {
	*netnstest.Namespace
	id        string
	namespace string
}

func newPod(t testing.TB, namespace, id string) *pod {
	t.Helper()
	return &pod{Namespace: netnstest.New(t, id), id: id, namespace: namespace}
}

func (p *pod) request() *cniv1.AddRequest {
	return &cniv1.AddRequest{
		ContainerId: p.id, Netns: p.Path(), Ifname: "eth0", PodNamespace: p.namespace, PodName: p.id,
		Labels: map[string]string{"app": "web"},
	}
}

func (p *pod) deletion() *cniv1.DeleteRequest {
	return &cniv1.DeleteRequest{ContainerId: p.id, Ifname: "eth0", Netns: p.Path()}
}

// reaches says whether one ping of this pod is answered.
func (p *pod) reaches(address string) bool {
	return p.Command("ping", "-n", "-c", "1", "-W", "1", address).Run() == nil
}

func add(t testing.TB, s *attach.Server, r *cniv1.AddRequest) *cniv1.AddResponse {
	t.Helper()
	response, err := s.Add(t.Context(), r)
	if err != nil {
		t.Fatalf("add %s: %v", r.GetContainerId(), err)
	}
	return response
}

func ipOf(r *cniv1.AddResponse) string {
	return netip.MustParsePrefix(r.GetAttachment().GetIps()[0]).Addr().String()
}

// expectReason checks the reason of an error and that its text names things.
func expectReason(t testing.TB, err error, reason string, names ...string) {
	t.Helper()
	if got := rpcerr.Reason(err); got != reason {
		t.Fatalf("reason is %q, want %q (error: %v)", got, reason, err)
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not say %q: %v", name, err)
		}
	}
}

// site is a node; the zero value is one that is ready, with the subnet of the plan.
type site struct {
	missing []string
	subnet  netip.Prefix
}

func (s site) Network() (attach.Network, []string) {
	subnet := plan.Subnet
	if s.subnet.IsValid() {
		subnet = s.subnet
	}
	return attach.Network{
		Subnet: subnet, ClusterNetworks: plan.ClusterNetworks, ServiceNetworks: plan.ServiceNetworks, Underlay: "under0", MTU: mtu,
	}, s.missing
}

// directory is tenancy: a list.
type directory struct{}

func (directory) VNID(_ context.Context, namespace string) (uint32, error) {
	if vnid, ok := tenants[namespace]; ok {
		return vnid, nil
	}
	return 0, rpcerr.New(codes.NotFound, attach.Domain, attach.ReasonUnknownNamespace, "namespace "+namespace+" is not known", nil)
}

// EgressRouterSources: shop may have egress routers, and nobody else.
func (directory) EgressRouterSources(namespace string) []netip.Prefix {
	if namespace == "shop" {
		return []netip.Prefix{netip.MustParsePrefix("192.0.2.96/28")}
	}
	return nil
}

// reports remembers what was told to the registry.
type reports struct {
	mu   sync.Mutex
	said []string
}

func (r *reports) PodUp(a *cniv1.Attachment)   { r.say("up " + a.GetContainerId()) }
func (r *reports) PodDown(a *cniv1.Attachment) { r.say("down " + a.GetContainerId()) }

func (r *reports) say(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, what)
}

func (r *reports) all() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.said, ", ")
}

// programmer programs pods of a directory that never changes.
type programmer struct{ flows *flowsync.Syncer }

func owner(a *cniv1.Attachment) string { return "pod " + a.GetPodName() + " " + a.GetContainerId() }

func (p *programmer) compile(a *cniv1.Attachment) []openflow.Flow {
	return pipeline.PodFragment(plan, pipeline.Pod{
		Namespace: a.GetPodNamespace(), Name: a.GetPodName(),
		IP: netip.MustParsePrefix(a.GetIps()[0]).Addr(), Port: a.GetOfport(), VNID: tenants[a.GetPodNamespace()],
	}).Flows
}

func (p *programmer) Program(ctx context.Context, a *cniv1.Attachment) error {
	return p.flows.Apply(ctx, flowsync.Change{Owner: owner(a), Flows: p.compile(a)})
}

func (p *programmer) Unprogram(ctx context.Context, a *cniv1.Attachment) error {
	return p.flows.Apply(ctx, flowsync.Change{Owner: owner(a)})
}

func (p *programmer) Differences(ctx context.Context, a *cniv1.Attachment) ([]string, error) {
	dump, err := p.flows.Dump(ctx)
	if err != nil {
		return nil, err
	}
	has := 0
	for _, f := range dump {
		if f.Owner == owner(a) {
			has++
		}
	}
	if want := len(p.compile(a)); has != want {
		return []string{fmt.Sprintf("flows: the switch has %d, should have %d", has, want)}, nil
	}
	return nil, nil
}

// compare makes the switch have the flows of every node and of these pods, and no
// others: what an agent does after Restore.
func (p *programmer) compare(ctx context.Context, pods []*cniv1.Attachment) (flowsync.Diff, error) {
	want := map[string][]openflow.Flow{"base": pipeline.Base(plan).Flows}
	for _, vnid := range tenants {
		f := pipeline.TenantFragment(plan, vnid)
		want[f.Owner] = f.Flows
	}
	for _, a := range pods {
		want[owner(a)] = p.compile(a)
	}
	return p.flows.Reconcile(ctx, want)
}

// serverEnv makes the test binary a server: TestMain sees it in the environment.
const serverEnv = "DAMASK_ATTACH_TEST_PLACE"

func TestMain(m *testing.M) {
	if text := os.Getenv(serverEnv); text != "" {
		if err := serveAt(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serveAt is the server process: restore, serve, until it is killed.
func serveAt(text string) error {
	var where place
	if err := json.Unmarshal([]byte(text), &where); err != nil {
		return err
	}
	ctx := context.Background()
	p, err := openParts(ctx, where)
	if err != nil {
		return err
	}
	s := p.server(nil)
	pods, err := s.Restore(ctx)
	if err != nil {
		return err
	}
	if _, err := p.programmer.compare(ctx, pods); err != nil {
		return err
	}
	return serveOn(ctx, s, where.Socket)
}

// serveOn serves on a unix socket as the agent does.
func serveOn(ctx context.Context, s *attach.Server, socket string) error {
	door, err := cnisocket.New(socket, s, hclog.NewNullLogger(), prometheus.NewRegistry())
	if err != nil {
		return err
	}
	return door.Run(ctx)
}

// startServer starts a server process on the node and waits until it answers.
func (n *node) startServer(t testing.TB) *proctest.Process {
	t.Helper()
	text, err := json.Marshal(n.place)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	process := proctest.Start(t, cmd)
	awaitSocket(t, n.place.Socket, process.Done())
	return process
}

// awaitSocket polls: nothing tells when somebody begins to listen.
func awaitSocket(t testing.TB, socket string, gone <-chan struct{}) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !answers(socket) {
		select {
		case <-tick.C:
		case <-gone:
			t.Fatal("the server ended at its start")
		case <-deadline:
			t.Fatal("the server does not listen")
		}
	}
}
