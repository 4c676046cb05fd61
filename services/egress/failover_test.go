package egress

import (
	"fmt"
	"slices"
	"testing"
	"time"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// cluster starts replicas and agents n1, n2, …; kill takes a node's power.
func cluster(t testing.TB, replicas, nodes int) (sys *system, f *fabric, kill map[string]func()) {
	t.Helper()
	sys, f, kill = start(t, replicas), newFabric(t), map[string]func(){}
	sys.ipam.register(nodes)
	for n := 1; n <= nodes; n++ {
		name := fmt.Sprintf("n%d", n)
		kill[name] = sys.startAgent(f, name, fmt.Sprintf("192.0.2.%d/16", 100+n))
	}
	return sys, f, kill
}

// told waits until a namespace is told something of its only address.
func (s *system) told(namespace string, what string, right func(*egressv1.AssignedAddress) bool) *egressv1.AssignedAddress {
	s.t.Helper()
	op, ctx := s.operator(), soon(s.t)
	var last *egressv1.AssignedAddress
	for {
		page, err := op.ListEgressAssignments(ctx, &egressv1.ListEgressAssignmentsRequest{Namespaces: []string{namespace}})
		if err != nil {
			s.t.Fatalf("%s is told %v, want %s: %v", namespace, last, what, err)
		}
		for _, a := range page.GetEgressAssignments() {
			if last = a.GetAddresses()[0]; right(last) {
				return last
			}
		}
	}
}

func hostedBy(node string) func(*egressv1.AssignedAddress) bool {
	return func(a *egressv1.AssignedAddress) bool {
		return a.GetState() == egressv1.AddressState_ADDRESS_STATE_HOSTED && a.GetNode() == node
	}
}

func TestAnAddressMovesWhenItsNodeDies(t *testing.T) {
	const runs = 5
	sys, f, kill := cluster(t, 2, 3+runs)
	op := sys.operator()
	for n := 1; n <= 3+runs; n++ {
		op.offer(t, &egressv1.HostSubnetEgress{Node: fmt.Sprintf("n%d", n), EgressIps: []string{"192.0.2.7"}})
	}
	sys.tenancy.netid("shop", 42)
	op.want(t, "shop", "192.0.2.7")
	f.until("n1", "192.0.2.7")
	var took []time.Duration
	for n := 1; n <= runs; n++ {
		at, next := fmt.Sprintf("n%d", n), fmt.Sprintf("n%d", n+1)
		sys.told("shop", "hosted by "+at, hostedBy(at))
		kill[at]()
		took = append(took, f.until(next, "192.0.2.7"))
	}
	slices.Sort(took)
	t.Logf("from power-off until the next node holds the address: %v", took)
	if took[len(took)-1] > 3*time.Second {
		t.Errorf("the slowest took %v", took[len(took)-1])
	}
	a := sys.told("shop", "hosted", hostedBy(fmt.Sprintf("n%d", runs+1)))
	if a.GetRule() != egressv1.PlacementRule_PLACEMENT_RULE_MANUAL || a.GetNodeIp() != fmt.Sprintf("192.0.2.%d", 101+runs) || a.GetReason() != 0 || a.GetSince() == nil {
		t.Errorf("told %v", a)
	}
	page, err := op.ListEgressNodes(soon(t), &egressv1.ListEgressNodesRequest{Nodes: []string{"n1"}})
	if err != nil || page.GetEgressNodes()[0].GetHealth() != egressv1.NodeHealth_NODE_HEALTH_DOWN {
		t.Errorf("n1 is %v, %v", page, err)
	}
}

func TestADrainedNodeGivesUpBeforeAnotherTakes(t *testing.T) {
	sys, f, _ := cluster(t, 1, 3)
	op := sys.operator()
	for _, node := range []string{"n1", "n2"} {
		op.offer(t, &egressv1.HostSubnetEgress{Node: node, EgressCidrs: []string{"192.0.2.0/26"}})
	}
	for i := range 4 {
		sys.tenancy.netid(fmt.Sprintf("ns%d", i), uint32(50+i)) //nolint:gosec // small
		op.want(t, fmt.Sprintf("ns%d", i), fmt.Sprintf("192.0.2.%d", i+1))
	}
	f.until("n1", "192.0.2.1", "192.0.2.3")
	f.until("n2", "192.0.2.2", "192.0.2.4")
	if _, err := op.DrainEgress(soon(t), &egressv1.DrainEgressRequest{Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	took := f.until("n2", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")
	f.until("n1")
	t.Logf("two addresses moved in %v", took.Round(time.Millisecond))
	op.offer(t, &egressv1.HostSubnetEgress{Node: "n1", EgressCidrs: []string{"192.0.2.0/25"}}) // still drained
	if _, err := op.DrainEgress(soon(t), &egressv1.DrainEgressRequest{Node: "n2"}); err != nil {
		t.Fatal(err)
	}
	sys.told("ns0", "unhosted because drained", func(a *egressv1.AssignedAddress) bool {
		return a.GetState() == egressv1.AddressState_ADDRESS_STATE_UNHOSTED && a.GetReason() == egressv1.AddressReason_ADDRESS_REASON_DRAINED
	})
	if _, err := op.RestoreEgress(soon(t), &egressv1.RestoreEgressRequest{Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	f.until("n1", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")
}

func TestAReplicaThatStopsLeavesDecidingToAnother(t *testing.T) {
	sys, f := newSystem(t), newFabric(t)
	stops := []func(){sys.startReplica()}
	sys.ipam.register(3)
	sys.tenancy.netid("shop", 42)
	op := sys.operator()
	op.offer(t, &egressv1.HostSubnetEgress{Node: "n1", EgressIps: []string{"192.0.2.7", "192.0.2.8"}})
	stops = append(stops, sys.startReplica())
	kill := sys.startAgent(f, "n1", "192.0.2.101/24")
	op = sys.operator()
	op.want(t, "shop", "192.0.2.7")
	f.until("n1", "192.0.2.7")
	stops[0]()
	op.want(t, "shop", "192.0.2.8")
	took := f.until("n1", "192.0.2.8")
	t.Logf("decided by the other after %v", took.Round(time.Millisecond))
	kill()
	sys.ipam.release("n1")
	sys.told("shop", "unhosted because the node is unknown", func(a *egressv1.AssignedAddress) bool {
		return a.GetReason() == egressv1.AddressReason_ADDRESS_REASON_NETWORK_UNKNOWN
	})
}

// within fails when a node takes too long to hold exactly these addresses.
func (f *fabric) within(limit time.Duration, node string, addresses ...string) {
	f.t.Helper()
	took := f.until(node, addresses...)
	f.t.Logf("%s holds %v after %v", node, addresses, took.Round(time.Millisecond))
	if took > limit {
		f.t.Errorf("%s holds %v after %v only", node, addresses, took)
	}
}

func TestNodesThatDieTogetherAreAllReplaced(t *testing.T) {
	sys, f, kill := cluster(t, 2, 6)
	op := sys.operator()
	for node, ip := range map[string]string{"n1": "192.0.2.7", "n2": "192.0.2.8", "n3": "192.0.2.7", "n4": "192.0.2.8"} {
		op.offer(t, &egressv1.HostSubnetEgress{Node: node, EgressIps: []string{ip}})
	}
	sys.tenancy.netid("shop", 42)
	sys.tenancy.netid("bank", 43)
	op.want(t, "shop", "192.0.2.7")
	op.want(t, "bank", "192.0.2.8")
	sys.told("shop", "hosted by n1", hostedBy("n1"))
	sys.told("bank", "hosted by n2", hostedBy("n2"))
	f.until("n1", "192.0.2.7")
	f.until("n2", "192.0.2.8")
	f.kill("n1")
	f.kill("n2")
	f.within(3*time.Second, "n3", "192.0.2.7")
	f.within(3*time.Second, "n4", "192.0.2.8")
	kill["n1"]()
	kill["n2"]()
}

// TestANodeIsWatchedWhileItHasAnyAddress takes one of a node's two addresses away before the node
// dies: in one case nobody wants it any more, in the other the node may not host it.
func TestANodeIsWatchedWhileItHasAnyAddress(t *testing.T) {
	for name, less := range map[string]func(op client){
		"a wish is gone":        func(op client) { op.want(t, "bank") },
		"an offer is withdrawn": func(op client) { op.offer(t, &egressv1.HostSubnetEgress{Node: "n1", EgressIps: []string{"192.0.2.7"}}) },
	} {
		t.Run(name, func(t *testing.T) {
			sys, f, kill := cluster(t, 2, 4)
			op := sys.operator()
			op.offer(t, &egressv1.HostSubnetEgress{Node: "n1", EgressIps: []string{"192.0.2.7", "192.0.2.8"}})
			sys.tenancy.netid("shop", 42)
			sys.tenancy.netid("bank", 43)
			op.want(t, "shop", "192.0.2.7")
			op.want(t, "bank", "192.0.2.8")
			f.until("n1", "192.0.2.7", "192.0.2.8")
			op.offer(t, &egressv1.HostSubnetEgress{Node: "n2", EgressIps: []string{"192.0.2.7"}})
			less(op)
			f.until("n1", "192.0.2.7")
			sys.told("shop", "hosted by n1", hostedBy("n1"))
			kill["n1"]()
			f.within(3*time.Second, "n2", "192.0.2.7")
		})
	}
}

// TestANodeThatIsMissingHoldsUpNoDecision has an offer of a node that ipam does not know, a node
// without an agent, and one that is released at the moment in which the host dies.
func TestANodeThatIsMissingHoldsUpNoDecision(t *testing.T) {
	sys, f, kill := cluster(t, 2, 4)
	sys.ipam.register(5)
	op := sys.operator()
	for _, node := range []string{"ghost", "n1", "n2", "n5"} {
		op.offer(t, &egressv1.HostSubnetEgress{Node: node, EgressIps: []string{"192.0.2.7"}})
	}
	sys.tenancy.netid("shop", 42)
	op.want(t, "shop", "192.0.2.7")
	f.until("n1", "192.0.2.7")
	sys.told("shop", "hosted by n1", hostedBy("n1"))
	sys.ipam.release("n3")
	kill["n1"]()
	f.within(3*time.Second, "n2", "192.0.2.7")
}

// TestANodeThatSomeDoNotSeeMovesOnceOrNotAtAll cuts the host off from one of its observers, and then
// from most of them.
func TestANodeThatSomeDoNotSeeMovesOnceOrNotAtAll(t *testing.T) {
	sys, f, _ := cluster(t, 2, 5)
	op := sys.operator()
	for _, node := range []string{"n1", "n2"} {
		op.offer(t, &egressv1.HostSubnetEgress{Node: node, EgressIps: []string{"192.0.2.7"}})
	}
	sys.tenancy.netid("shop", 42)
	op.want(t, "shop", "192.0.2.7")
	f.until("n1", "192.0.2.7")
	hosts := func(want ...string) {
		t.Helper()
		f.mu.Lock()
		defer f.mu.Unlock()
		if got := f.took["192.0.2.7"]; !slices.Equal(got, want) {
			t.Errorf("it was held by %v, one after the other, want %v", got, want)
		}
	}
	// said waits until an observer has told each replica ten times that n1 does not answer.
	said := func(observer string) {
		t.Helper()
		f.mu.Lock()
		most := f.denied[[2]string{observer, "n1"}] + 10*len(sys.replica)
		f.mu.Unlock()
		f.await(func() (string, bool) {
			n := f.denied[[2]string{observer, "n1"}]
			return fmt.Sprintf("%s said %d times that n1 does not answer, want %d", observer, n, most), n >= most
		})
	}
	f.sever("n3", "n1")
	said("n3")
	sys.told("shop", "hosted by n1", hostedBy("n1"))
	hosts("n1")
	for _, node := range []string{"n2", "n4"} {
		f.sever(node, "n1")
	}
	f.within(3*time.Second, "n2", "192.0.2.7")
	said("n3")
	f.until("n1")
	f.until("n2", "192.0.2.7")
	hosts("n1", "n2")
}
