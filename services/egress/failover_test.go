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
