package intent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/ovstest"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
)

// node is a programmer over a real switch.
type node struct {
	*testing.T
	state *State
	prog  *Programmer
	flows *flowsync.Syncer
	sw    *ovstest.Switch
}

func newNode(t *testing.T) *node {
	t.Helper()
	sw := ovstest.Start(t, ovstest.Options{Datapath: ovstest.Dummy})
	sw.AddBridge(t, "br0")
	n := &node{T: t, state: NewState("self", false), sw: sw}
	n.flows = flowsync.New(flowsync.Config{Socket: sw.MgmtSocket("br0")}, hclog.NewNullLogger())
	n.prog = NewProgrammer(n.state, n.flows, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = n.flows.Run(ctx) })
	running.Go(func() { _ = n.prog.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return n
}

// plan is a small cluster's.
func plan1() *ipamv1.ClusterNetwork {
	return &ipamv1.ClusterNetwork{
		Name: "default", Networks: []*ipamv1.ClusterNetworkEntry{{Cidr: "10.128.0.0/14", HostSubnetLength: 9}},
		ServiceNetworks: []string{"172.30.0.0/16"}, Revision: 1,
	}
}

func hostSubnet(name, ip, subnet string, revision uint64) *ipamv1.HostSubnet {
	return &ipamv1.HostSubnet{Name: name, HostIps: []string{ip}, Subnets: []string{subnet}, Revision: revision}
}

func namespace(name string, vnid uint32, revision uint64) *tenancyv1.NetNamespace {
	return &tenancyv1.NetNamespace{Name: name, Netid: vnid, Revision: revision}
}

func isolation(multitenant bool, revision uint64) *tenancyv1.Isolation {
	mode := tenancyv1.IsolationMode_ISOLATION_MODE_SUBNET
	if multitenant {
		mode = tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT
	}
	return &tenancyv1.Isolation{Mode: mode, Revision: revision}
}

func podNumber(i int, ns string) Pod {
	return Pod{
		Namespace: ns, Name: fmt.Sprintf("p%d", i), Sandbox: fmt.Sprintf("%012d", i), Ifname: "eth0",
		IP: netip.AddrFrom4([4]byte{10, 128, byte(i >> 8), byte(2 + i%250)}), Port: uint32(3 + i),
	}
}

// know makes the state complete.
func (n *node) know() {
	n.Helper()
	_, err1 := n.state.SetClusterNetwork(plan1())
	_, err2 := n.state.SetHostSubnet(hostSubnet("self", "192.0.2.1", "10.128.0.0/23", 2))
	_, err3 := n.state.SetIsolation(isolation(true, 3))
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			n.Fatal(err)
		}
	}
	if missing := n.state.Missing(); len(missing) > 0 {
		n.Fatalf("still missing: %v", missing)
	}
}

func (n *node) reconcile() flowsync.Diff {
	n.Helper()
	diff, err := n.prog.Reconcile(n.Context())
	if err != nil {
		n.Fatal(err)
	}
	return diff
}

// installed answers the switch's own text of its flows.
func (n *node) installed() string {
	n.Helper()
	return n.sw.Ofctl(n.T, "-O", "OpenFlow13", "--no-stats", "--no-names", "dump-flows", "br0")
}

func TestNothingIsSentBeforeTheStateIsComplete(t *testing.T) {
	n := newNode(t)
	n.sw.Ofctl(t, "-O", "OpenFlow13", "add-flow", "br0", "table=70,priority=100,ip,nw_dst=10.128.0.9,actions=drop")
	if _, err := n.state.SetClusterNetwork(plan1()); err != nil {
		t.Fatal(err)
	}
	n.state.SetNetNamespace(namespace("red", 42, 1))
	if err := n.prog.Program(t.Context(), n.state.AddPod(podNumber(1, "red"))); err == nil {
		t.Error("a pod was programmed before the switch was compared")
	}
	if got := n.installed(); !strings.Contains(got, "10.128.0.9") {
		t.Errorf("a flow of a former agent is gone:\n%s", got)
	}
	n.know()
	diff := n.reconcile()
	if len(diff.Deleted) != 1 || len(diff.Added) == 0 {
		t.Errorf("the first comparison added %d flows and deleted %d, want some and one", len(diff.Added), len(diff.Deleted))
	}
}

func TestANamespaceMovesWithAllItsPodsInOneBundle(t *testing.T) {
	n := newNode(t)
	n.know()
	n.state.SetNetNamespace(namespace("red", 42, 10))
	n.reconcile()
	for i := range 20 {
		if err := n.prog.Program(t.Context(), n.state.AddPod(podNumber(i, "red"))); err != nil {
			t.Fatal(err)
		}
	}
	written, deleted := n.flows.Counters()
	if err := n.prog.Program(t.Context(), n.state.SetNetNamespace(namespace("red", 43, 11))); err != nil {
		t.Fatal(err)
	}
	w, d := n.flows.Counters()
	// Four flows of each pod name the VNID (ARP and IP of table 20, 25, 70),
	// and the tenant's own comes and goes.
	if w-written != 81 || d-deleted != 1 {
		t.Errorf("the move wrote %d flows and deleted %d, want 81 and 1", w-written, d-deleted)
	}
	if got := n.installed(); strings.Contains(got, "0x2a") || strings.Count(got, "0x2b") < 81 {
		t.Errorf("flows are not all of the new VNID:\n%s", got)
	}
	if followed, revision, err := n.prog.WaitProgrammed(t.Context(), Object{KindNetNamespace, "red"}, 11); !followed || revision != 11 || err != nil {
		t.Errorf("WaitProgrammed answers %t, %d, %v", followed, revision, err)
	}
}

func TestPodsThatShareATenantDoNotSendItsFlowAgain(t *testing.T) {
	n := newNode(t)
	n.know()
	n.state.SetNetNamespace(namespace("red", 42, 10))
	n.reconcile()
	if err := n.prog.Program(t.Context(), n.state.AddPod(podNumber(1, "red"))); err != nil {
		t.Fatal(err)
	}
	before, _ := n.flows.Counters()
	if err := n.prog.Program(t.Context(), n.state.AddPod(podNumber(2, "red"))); err != nil {
		t.Fatal(err)
	}
	if after, _ := n.flows.Counters(); after-before != 5 {
		t.Errorf("the second pod wrote %d flows, want its own 5", after-before)
	}
}

func TestWaitingForAnObjectThatIsNotFollowedAnswersAtOnce(t *testing.T) {
	n := newNode(t)
	n.know()
	n.reconcile()
	followed, _, err := n.prog.WaitProgrammed(t.Context(), Object{KindNetNamespace, "elsewhere"}, 7)
	if followed || err != nil {
		t.Errorf("answers %t, %v", followed, err)
	}
}

func TestAnObjectThatCannotBeUnderstoodIsRememberedAndStopsNobody(t *testing.T) {
	n := newNode(t)
	n.know()
	n.reconcile()
	bad := hostSubnet("node9", "not an address", "10.131.0.0/23", 20)
	if _, err := n.state.SetHostSubnet(bad); err == nil {
		t.Fatal("it was taken")
	} else {
		n.prog.Refuse(Object{KindHostSubnet, "node9"}, err)
	}
	change, err := n.state.SetHostSubnet(hostSubnet("node2", "192.0.2.2", "10.129.0.0/23", 21))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.prog.Program(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(n.installed(), "192.0.2.2") {
		t.Error("the good one is not in the switch")
	}
	for _, s := range n.prog.Statuses() {
		switch s.Name {
		case "node9":
			if s.Err == nil || s.Programmed != 0 || s.Wanted != 20 {
				t.Errorf("the bad one's status is %+v", s)
			}
		case "node2":
			if s.Err != nil || s.Programmed != 21 || s.Flows != 4 {
				t.Errorf("the good one's status is %+v", s)
			}
		}
	}
}

// TestConcurrentHistoriesEndAsIfCompiledFromScratch lets CNI commands, changes
// from the bus and audits run at the same time, as they do on a node.
func TestConcurrentHistoriesEndAsIfCompiledFromScratch(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			n := newNode(t)
			n.know()
			namespaces := []string{"red", "blue", "green"}
			for i, ns := range namespaces {
				n.state.SetNetNamespace(namespace(ns, uint32(100+i), uint64(10+i)))
			}
			n.reconcile()
			var work sync.WaitGroup
			for worker := range 4 {
				work.Go(func() { n.commands(rand.New(rand.NewPCG(seed, uint64(worker))), worker, namespaces) })
			}
			work.Go(func() { n.changes(rand.New(rand.NewPCG(seed, 99)), namespaces) })
			work.Go(func() {
				for range 10 {
					if _, err := n.prog.Reconcile(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
			work.Wait()
			n.wantQuiet()
		})
	}
}

// commands adds and removes pods, each of one worker's own.
func (n *node) commands(random *rand.Rand, worker int, namespaces []string) {
	there := map[int]Pod{}
	for range 60 {
		i := worker*100 + random.IntN(12)
		var change Change
		if p, has := there[i]; has {
			change = n.state.RemovePod(p)
			delete(there, i)
		} else {
			p = podNumber(i, namespaces[random.IntN(len(namespaces))])
			there[i] = p
			change = n.state.AddPod(p)
		}
		if err := n.prog.Program(n.Context(), change); err != nil {
			n.Error(err)
		}
	}
}

// changes moves namespaces, nodes and the mode, as followers tell of them.
func (n *node) changes(random *rand.Rand, namespaces []string) {
	for i := range uint64(60) {
		revision := 100 + i
		switch random.IntN(8) {
		case 0:
			change, _ := n.state.SetIsolation(isolation(random.IntN(2) == 0, revision))
			n.prog.Queue(change)
		case 1:
			change, _ := n.state.SetHostSubnet(hostSubnet("node2", fmt.Sprintf("192.0.2.%d", 2+random.IntN(5)), "10.129.0.0/23", revision))
			n.prog.Queue(change)
		case 2:
			n.prog.Queue(n.state.DeleteHostSubnet("node2"))
		case 3:
			n.prog.Queue(n.state.SetService(anyService(random, namespaces)))
		case 4:
			s := anyService(random, namespaces)
			n.prog.Queue(n.state.DeleteService(s.Namespace, s.Name))
		default:
			ns := namespaces[random.IntN(len(namespaces))]
			changed := namespace(ns, uint32(random.IntN(4)), revision)
			changed.MulticastEnabled = random.IntN(2) == 0
			n.prog.Queue(n.state.SetNetNamespace(changed))
		}
	}
}

// wantQuiet waits until everything is programmed, and then wants that a
// comparison with everything compiled anew changes nothing.
func (n *node) wantQuiet() {
	n.Helper()
	ctx, cancel := context.WithTimeout(n.Context(), 20*time.Second)
	defer cancel()
	for object, revision := range n.state.Objects() {
		if _, _, err := n.prog.WaitProgrammed(ctx, object, revision); err != nil {
			n.Fatalf("%v at revision %d: %v", object, revision, err)
		}
	}
	// A deleted object has no revision to wait for; its deletion may be queued.
	var diff flowsync.Diff
	for range 2 {
		diff = n.reconcile()
	}
	if !diff.Empty() {
		n.Errorf("a second comparison still changed something: %+v", diff)
	}
	want := 0
	for _, flows := range n.state.CompileAll() {
		want += len(flows)
	}
	got := slices.DeleteFunc(strings.Split(n.installed(), "\n"), func(line string) bool { return !strings.Contains(line, "actions=") })
	if len(got) != want {
		n.Errorf("the switch has %d flows, compiled from scratch there are %d", len(got), want)
	}
}
