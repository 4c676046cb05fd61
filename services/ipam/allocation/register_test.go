package allocation_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam/allocation"
)

func TestNodesGetSubnetsInOrderAndKeepThem(t *testing.T) {
	server := natsdtest.New(t)
	a, _ := replica(t, server, "ipam", nil)
	b, view := replica(t, server, "ipam", nil)
	_, err := a.Register(soon(), node("n1", "u1", 1), now)
	refused(t, err, allocation.NoClusterNetwork, "there is no cluster network yet; an operator must create it")
	created(t, a, one(t, "10.128.0.0/14", 9))

	first := registered(t, a, node("n1.example.org", "u1", 1))
	want := &ipamv1.HostSubnet{
		Name: "n1.example.org", Host: "n1.example.org", HostIps: []string{"192.0.2.1"}, Subnets: []string{"10.128.0.0/23"},
		NodeUid: "u1", CreateTime: timestamppb.New(now), Revision: first.GetRevision(),
	}
	if !proto.Equal(first, want) || first.GetRevision() == 0 {
		t.Errorf("got %v, want %v", first, want)
	}
	for i, want := range []string{"10.129.0.0/23", "10.130.0.0/23", "10.131.0.0/23", "10.128.2.0/23"} {
		if got := subnetOf(registered(t, b, node("m"+string(rune('a'+i)), "u", byte(10+i)))); got != want {
			t.Errorf("node %d: got %s, want %s", i, got, want)
		}
	}
	again := registered(t, b, node("n1.example.org", "u1", 1))
	if !proto.Equal(again, first) {
		t.Errorf("again: got %v, want %v", again, first)
	}
	if e, ok := view.Get("hostsubnet.n1_2Eexample_2Eorg"); !ok || e.Revision != first.GetRevision() {
		t.Errorf("stored under revision %d, answered %d", e.Revision, first.GetRevision())
	}
}

func TestAFreedSubnetIsGivenOutAfterAllOthers(t *testing.T) {
	s, _ := replica(t, natsdtest.New(t), "ipam", nil)
	created(t, s, one(t, "10.1.0.0/24", 6)) // four subnets
	for i, name := range []string{"a", "b", "c"} {
		registered(t, s, node(name, "u", byte(i)))
	}
	released(t, s, "b") // 10.1.0.64
	released(t, s, "a") // 10.1.0.0
	for i, want := range []string{"10.1.0.192/26", "10.1.0.64/26", "10.1.0.0/26"} {
		if got := subnetOf(registered(t, s, node("n"+want[:2]+string(rune('0'+i)), "u", byte(50+i)))); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestAnAdoptedSubnetIsPassedOverAndItsReleaseDoesNotBringItBackFirst(t *testing.T) {
	s, _ := replica(t, natsdtest.New(t), "ipam", nil)
	created(t, s, one(t, "10.1.0.0/24", 6))
	if got := subnetOf(registered(t, s, node("a", "u", 1, "10.1.0.0/26"))); got != "10.1.0.0/26" {
		t.Fatalf("adopted %s", got)
	}
	registered(t, s, node("a2", "u", 2, "10.1.0.64/26"))
	released(t, s, "a")
	for i, want := range []string{"10.1.0.128/26", "10.1.0.192/26", "10.1.0.0/26"} {
		if got := subnetOf(registered(t, s, node(string(rune('p'+i)), "u", byte(50+i)))); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestWhatCannotBeGivenIsRefusedWithEverythingThatStandsAgainstIt(t *testing.T) {
	s, _ := replica(t, natsdtest.New(t), "ipam", nil)
	created(t, s, one(t, "10.128.0.0/14", 9))
	registered(t, s, node("n1", "u1", 1))
	inside := node("n2", "u2", 2)
	inside.HostIPs[0] = inside.HostIPs[0].Next().Next()
	for _, tc := range []struct {
		name string
		r    allocation.Registration
		kind allocation.Kind
		want string
	}{
		{"the subnet and the address are another node's", node("n2", "u2", 1, "10.128.0.0/23"), allocation.Overlap,
			"subnet 10.128.0.0/23 belongs to node n1; host IP 192.0.2.1 belongs to node n1"},
		{"the subnet is of another size", node("n2", "u2", 2, "10.128.0.0/24"), allocation.Overlap,
			"10.128.0.0/24 is no subnet of the cluster network (10.128.0.0/14 by /23 (512 subnets))"},
		{"the subnet is of no range", node("n2", "u2", 2, "10.200.0.0/23"), allocation.Overlap,
			"10.200.0.0/23 is no subnet of the cluster network (10.128.0.0/14 by /23 (512 subnets))"},
		{"a pod's address", withIP(node("n2", "u2", 2), "10.129.3.4"), allocation.Overlap, "host IP 10.129.3.4 is in the pod network 10.128.0.0/14"},
		{"a service's address", withIP(node("n2", "u2", 2), "172.30.0.1"), allocation.Overlap, "host IP 172.30.0.1 is in the service network 172.30.0.0/16"},
		{"a known node with another wish", node("n1", "u1", 1, "10.129.0.0/23"), allocation.InUse,
			"node n1 has 10.128.0.0/23 and cannot get 10.129.0.0/23; release it first"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := s.Register(soon(), tc.r, now)
			refused(t, err, tc.kind, tc.want)
		})
	}
	if got := subnetOf(registered(t, s, node("n1", "u1", 1, "10.128.0.0/23"))); got != "10.128.0.0/23" {
		t.Errorf("a known node with its own wish: %s", got)
	}
	if got := subnetOf(registered(t, s, node("n2", "u2", 2))); got != "10.129.0.0/23" {
		t.Errorf("refusals used up subnets: %s", got)
	}
}

func withIP(r allocation.Registration, ip string) allocation.Registration {
	r.HostIPs[0] = r.HostIPs[0].Next()
	if err := r.HostIPs[0].UnmarshalText([]byte(ip)); err != nil {
		panic(err)
	}
	return r
}

func TestANodeMayMoveToAnotherAddress(t *testing.T) {
	s, _ := replica(t, natsdtest.New(t), "ipam", nil)
	created(t, s, one(t, "10.128.0.0/14", 9))
	before := registered(t, s, node("n1", "u1", 1))
	registered(t, s, node("n2", "u2", 2))
	_, err := s.Register(soon(), node("n1", "u1", 2), now)
	refused(t, err, allocation.Overlap, "host IP 192.0.2.2 belongs to node n2")
	after := registered(t, s, node("n1", "u1", 3))
	if subnetOf(after) != subnetOf(before) || after.GetHostIps()[0] != "192.0.2.3" || after.GetRevision() <= before.GetRevision() ||
		!proto.Equal(after.GetCreateTime(), before.GetCreateTime()) {
		t.Errorf("got %v, was %v", after, before)
	}
	registered(t, s, node("n3", "u3", 1)) // the former address is free
}

func TestAnotherMachineUnderTheSameNameIsAnotherNode(t *testing.T) {
	s, _ := replica(t, natsdtest.New(t), "ipam", nil)
	created(t, s, one(t, "10.1.0.0/25", 6)) // two subnets
	registered(t, s, node("n1", "u1", 1))
	renewed := registered(t, s, node("n1", "u2", 1))
	if subnetOf(renewed) != "10.1.0.64/26" || renewed.GetNodeUid() != "u2" {
		t.Errorf("got %v", renewed)
	}
	err := s.Release(soon(), "n1", "u1")
	refused(t, err, allocation.OtherIdentity, `node n1 is another machine now: its uid is "u2", not "u1"`)
	registered(t, s, node("n2", "u", 2))
	if got := subnetOf(registered(t, s, node("n1", "u3", 1))); got != "10.1.0.64/26" {
		t.Errorf("with nothing else free: got %s, want its own again", got)
	}
	if got := subnetOf(registered(t, s, node("n1", "u4", 1, "10.1.0.64/26"))); got != "10.1.0.64/26" {
		t.Errorf("adopting what the former machine had: got %s", got)
	}
	if err := s.Release(soon(), "n1", "u4"); err != nil {
		t.Error(err)
	}
	if err := s.Release(soon(), "n1", "u4"); err != nil {
		t.Errorf("releasing again: %v", err)
	}
}

func TestExhaustionIsSaidAndCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	metrics, err := allocation.NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := replica(t, natsdtest.New(t), "ipam", metrics)
	p := network(t, map[string]uint32{"10.1.0.0/25": 6, "10.2.0.0/24": 8}, "10.1.0.0/25", "10.2.0.0/24")
	created(t, s, p)
	for i, want := range []string{"10.1.0.0/26", "10.1.0.64/26", "10.2.0.0/24"} {
		if got := subnetOf(registered(t, s, node("n"+string(rune('1'+i)), "u", byte(i)))); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	_, err = s.Register(soon(), node("n4", "u", 4), now)
	refused(t, err, allocation.Exhausted,
		"no subnet is left for node n4: every one of 10.1.0.0/25 by /26 (2 subnets), 10.2.0.0/24 by /24 (1 subnets) is in use")
	released(t, s, "n3")
	want := `
# HELP damask_ipam_exhausted_total Registrations refused because every range was full.
# TYPE damask_ipam_exhausted_total counter
damask_ipam_exhausted_total 1
# HELP damask_ipam_subnets_allocated Subnets of a range of the cluster network that nodes have.
# TYPE damask_ipam_subnets_allocated gauge
damask_ipam_subnets_allocated{range="10.1.0.0/25"} 2
damask_ipam_subnets_allocated{range="10.2.0.0/24"} 0
# HELP damask_ipam_subnets_capacity Subnets that a range of the cluster network has.
# TYPE damask_ipam_subnets_capacity gauge
damask_ipam_subnets_capacity{range="10.1.0.0/25"} 2
damask_ipam_subnets_capacity{range="10.2.0.0/24"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestANodeThatIsExpectedGetsWhatWaitsForIt(t *testing.T) {
	s, _ := replica(t, natsdtest.New(t), "ipam", nil)
	created(t, s, one(t, "10.128.0.0/14", 9))
	held := errors.New("objects are being read")
	var hold error = held
	s.HoldWhile(func(bucket.Reader) error { return hold })

	_, err := s.Register(soon(), node("n2", "u2", 2), now)
	refused(t, err, allocation.Held, "node n2 is not known, and gets no subnet yet: objects are being read")
	expected := registered(t, s, node("n1", "", 1, "10.131.0.0/23"))
	if again := registered(t, s, node("n1", "", 9)); !proto.Equal(again, expected) {
		t.Errorf("expected again: %v, before %v", again, expected)
	}
	_, err = s.Register(soon(), node("n1", "", 1, "10.130.0.0/23"), now)
	refused(t, err, allocation.InUse, "node n1 has 10.131.0.0/23 and cannot get 10.130.0.0/23; release it first")

	came := registered(t, s, node("n1", "u1", 7))
	if subnetOf(came) != "10.131.0.0/23" || came.GetNodeUid() != "u1" || came.GetHostIps()[0] != "192.0.2.7" {
		t.Errorf("the node that came has %v", came)
	}
	hold = nil
	if got := subnetOf(registered(t, s, node("n2", "u2", 1))); got != "10.128.0.0/23" {
		t.Errorf("the next node, with the address that the first was expected with, got %s", got)
	}
	if got := subnetOf(registered(t, s, node("n1", "other", 8))); got == "10.131.0.0/23" {
		t.Error("another machine got what the first one had")
	}
}
