package egress

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/rpcerr"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

func TestAWrongWishIsRefusedWithAllThatIsWrong(t *testing.T) {
	op := start(t, 1).operator()
	_, err := op.SetNetNamespaceEgress(soon(t), &egressv1.SetNetNamespaceEgressRequest{NetNamespaceEgress: &egressv1.NetNamespaceEgress{
		Namespace: "Shop", EgressIps: []string{"192.0.2.07", "fd00::1", "224.0.0.1", "192.0.2.1", "192.0.2.1"},
		Pods: []*egressv1.PodEgress{{Name: "default"}, {Name: "a", PodSelector: map[string]string{"a b": "c"}, EgressIps: []string{"192.0.2.1"}}},
	}})
	want := []string{
		"net_namespace_egress.namespace", "net_namespace_egress.egress_ips[0]", "net_namespace_egress.egress_ips[1]", "net_namespace_egress.egress_ips[2]",
		"net_namespace_egress.egress_ips[4]", "net_namespace_egress.pods[0].name", "net_namespace_egress.pods[0].pod_selector", "net_namespace_egress.pods[0].egress_ips",
		"net_namespace_egress.pods[1].pod_selector", "net_namespace_egress.pods[1].egress_ips[0]",
	}
	if got := fields(err); status.Code(err) != codes.InvalidArgument || !slices.Equal(got, want) {
		t.Errorf("violations of\n%v, want\n%v", got, want)
	}
	_, err = op.SetHostSubnetEgress(soon(t), &egressv1.SetHostSubnetEgressRequest{HostSubnetEgress: &egressv1.HostSubnetEgress{
		Node: "n1.", EgressIps: []string{"x"}, EgressCidrs: []string{"192.0.2.1/24", "192.0.2.0/24", "192.0.2.0/24", "10.0.0.0/33"},
	}})
	want = []string{"host_subnet_egress.node", "host_subnet_egress.egress_ips[0]", "host_subnet_egress.egress_cidrs[0]", "host_subnet_egress.egress_cidrs[2]", "host_subnet_egress.egress_cidrs[3]"}
	if got := fields(err); !slices.Equal(got, want) {
		t.Errorf("violations of\n%v, want\n%v", got, want)
	}
	if _, err = op.SetNetNamespaceEgress(soon(t), &egressv1.SetNetNamespaceEgressRequest{}); !slices.Equal(fields(err), []string{"net_namespace_egress"}) {
		t.Errorf("nothing: %v", err)
	}
	_, err = op.ListEgressAssignments(soon(t), &egressv1.ListEgressAssignmentsRequest{PageSize: 5001, PageToken: "!", Namespaces: []string{"A"}})
	if got := fields(err); !slices.Equal(got, []string{"page_size", "page_token", "namespaces[0]"}) {
		t.Errorf("list: violations of %v", got)
	}
}

func TestAnAddressBelongsToTheFirstThatAsks(t *testing.T) {
	op := start(t, 2).operator()
	first := op.want(t, "shop", "192.0.2.1", "192.0.2.2")
	if again := op.want(t, "shop", "192.0.2.1", "192.0.2.2"); !proto.Equal(first, again) || first.GetRevision() == 0 {
		t.Errorf("first %v, then %v", first, again)
	}
	other := &egressv1.NetNamespaceEgress{Namespace: "bank", EgressIps: []string{"192.0.2.3", "192.0.2.2"}}
	_, err := op.SetNetNamespaceEgress(soon(t), &egressv1.SetNetNamespaceEgressRequest{NetNamespaceEgress: other})
	if meta := rpcerr.Metadata(err); rpcerr.Reason(err) != "TAKEN" || meta["ip"] != "192.0.2.2" || meta["by"] != "shop" {
		t.Errorf("got %v with %v", err, rpcerr.Metadata(err))
	}
	op.want(t, "bank", "192.0.2.3") // nothing of the refused wish was stored
	op.want(t, "shop", "192.0.2.1")
	op.want(t, "bank", "192.0.2.3", "192.0.2.2")
	if gone := op.want(t, "bank"); gone.GetRevision() != 0 {
		t.Errorf("a wish for nothing is %v", gone)
	}
	op.want(t, "shop", "192.0.2.3", "192.0.2.2", "192.0.2.1")
	page, err := op.ListNetNamespaceEgress(soon(t), &egressv1.ListNetNamespaceEgressRequest{})
	if err != nil || len(page.GetNetNamespaceEgress()) != 1 || page.GetNetNamespaceEgress()[0].GetNamespace() != "shop" {
		t.Errorf("list: %v, %v", page, err)
	}
	stale := &egressv1.NetNamespaceEgress{Namespace: "shop", Revision: first.GetRevision()}
	if _, err := op.SetNetNamespaceEgress(soon(t), &egressv1.SetNetNamespaceEgressRequest{NetNamespaceEgress: stale}); rpcerr.Reason(err) != "STALE_REVISION" || status.Code(err) != codes.Aborted {
		t.Errorf("an old revision: %v", err)
	}
}

func TestListsComeInPages(t *testing.T) {
	sys := start(t, 1)
	op := sys.operator()
	for i := range 7 {
		op.want(t, fmt.Sprintf("ns%d", i), fmt.Sprintf("192.0.2.%d", i+1))
	}
	var got []string
	for token := ""; ; {
		page, err := op.ListNetNamespaceEgress(soon(t), &egressv1.ListNetNamespaceEgressRequest{PageSize: 3, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range page.GetNetNamespaceEgress() {
			got = append(got, n.GetNamespace())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if want := []string{"ns0", "ns1", "ns2", "ns3", "ns4", "ns5", "ns6"}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	page, err := op.ListNetNamespaceEgress(soon(t), &egressv1.ListNetNamespaceEgressRequest{Namespaces: []string{"ns4", "nope", "ns1", "ns4"}, PageSize: 2})
	if err != nil || len(page.GetNetNamespaceEgress()) != 2 || page.GetNetNamespaceEgress()[1].GetNamespace() != "ns4" || page.GetNextPageToken() != "" {
		t.Errorf("of some namespaces: %v, %v", page, err)
	}
	sys.told("ns3", "not hosted, without VNID", func(a *egressv1.AssignedAddress) bool {
		return a.GetReason() == egressv1.AddressReason_ADDRESS_REASON_NO_NETID
	})
}

func TestNodesWriteOnlyWhatIsTheirs(t *testing.T) {
	sys := start(t, 1)
	node := sys.as(identity.Node("n1"))
	calls := map[string]error{}
	_, calls["a namespace's wish"] = node.SetNetNamespaceEgress(soon(t), &egressv1.SetNetNamespaceEgressRequest{})
	_, calls["its own offer"] = node.SetHostSubnetEgress(soon(t), &egressv1.SetHostSubnetEgressRequest{})
	_, calls["a drain"] = node.DrainEgress(soon(t), &egressv1.DrainEgressRequest{Node: "n1"})
	_, calls["another's networks"] = node.ReportNetworks(soon(t), &egressv1.ReportNetworksRequest{Node: "n2", Networks: []string{"192.0.2.1/24"}})
	for what, err := range calls {
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := node.ReportNetworks(soon(t), &egressv1.ReportNetworksRequest{Node: "n1", Networks: []string{"192.0.2.1", "192.0.2.1/024"}})
	if got := fields(err); !slices.Equal(got, []string{"networks[0]", "networks[1]"}) {
		t.Errorf("networks: violations of %v", got)
	}
	stream, err := node.ReportReachability(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	o := &egressv1.Observation{Target: "n2", Reachable: true}
	if err := stream.Send(&egressv1.ReportReachabilityRequest{Observations: []*egressv1.Observation{o, o}}); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("a target twice: %v", err)
	}
}

// TestWhatANodeMayHostIsChangedByNobodyElse has an offer of addresses and of ranges, and lets
// addresses come and go.
func TestWhatANodeMayHostIsChangedByNobodyElse(t *testing.T) {
	sys, f, _ := cluster(t, 1, 2)
	op := sys.operator()
	capacity := uint32(5)
	given := &egressv1.HostSubnetEgress{Node: "n1", EgressIps: []string{"192.0.2.9", "192.0.2.7"}, EgressCidrs: []string{"192.0.2.64/26", "192.0.2.0/26"}, Capacity: &capacity}
	op.offer(t, given)
	offered := func(when string, drained bool) {
		t.Helper()
		page, err := op.ListHostSubnetEgress(soon(t), &egressv1.ListHostSubnetEgressRequest{})
		if err != nil || len(page.GetHostSubnetEgress()) != 1 {
			t.Fatalf("%s: %v, %v", when, page, err)
		}
		got, want := page.GetHostSubnetEgress()[0], proto.CloneOf(given)
		want.Revision, want.Drained = got.GetRevision(), drained
		if !proto.Equal(got, want) {
			t.Errorf("%s n1 may host %v, want %v", when, got, want)
		}
	}
	sys.tenancy.netid("shop", 42)
	sys.tenancy.netid("bank", 43)
	op.want(t, "shop", "192.0.2.7") // listed
	op.want(t, "bank", "192.0.2.8") // in a range
	f.until("n1", "192.0.2.7", "192.0.2.8")
	offered("when it hosts,", false)
	op.offer(t, &egressv1.HostSubnetEgress{Node: "n2", EgressIps: []string{"192.0.2.7"}})
	if _, err := op.DrainEgress(soon(t), &egressv1.DrainEgressRequest{Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	f.until("n2", "192.0.2.7")
	f.until("n1")
	op.offer(t, &egressv1.HostSubnetEgress{Node: "n2"})
	offered("when it is drained,", true)
	if _, err := op.RestoreEgress(soon(t), &egressv1.RestoreEgressRequest{Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	f.until("n1", "192.0.2.7", "192.0.2.8")
	offered("when it is restored,", false)
}

// TestJoinedNamespacesAreToldApartByTheirPods joins two namespaces, and selects
// pods of one.
func TestJoinedNamespacesAreToldApartByTheirPods(t *testing.T) {
	sys, f, _ := cluster(t, 1, 2)
	op := sys.operator()
	op.offer(t, &egressv1.HostSubnetEgress{Node: "n1", EgressCidrs: []string{"192.0.2.0/26"}})
	sys.tenancy.netid("shop", 42)
	sys.tenancy.pod("shop", "web", "10.128.2.7", map[string]string{"app": "web"})
	sys.tenancy.pod("shop", "db", "10.128.2.10", map[string]string{"app": "db"})
	sys.tenancy.pod("shop", "cache", "10.128.2.9", nil)
	sys.tenancy.pod("bank", "till", "10.128.2.8", nil)
	op.want(t, "shop", "192.0.2.7")
	f.until("n1", "192.0.2.7")
	hosted := func() []*egressv1.HostedAddress {
		page, err := op.ListEgressHostings(soon(t), &egressv1.ListEgressHostingsRequest{Nodes: []string{"n1"}})
		if err != nil {
			t.Fatal(err)
		}
		return page.GetEgressHostings()[0].GetAddresses()
	}
	if a := hosted()[0]; a.GetNetid() != 42 || a.GetSlot() != 0 || a.GetMatchPods() {
		t.Errorf("alone it is %v", a)
	}
	pods, err := sys.connect(identity.Node("n1")).SubscribeSync(bus.Prefix(serviceName) + ".egresspods.>")
	if err != nil {
		t.Fatal(err)
	}
	sys.tenancy.netid("bank", 42) // bank joins shop
	next := func() *egressv1.EgressPods {
		t.Helper()
		msg, err := pods.NextMsgWithContext(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		list := &egressv1.EgressPods{}
		if err := proto.Unmarshal(msg.Data, list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := next(); got.GetNamespace() != "shop" || !slices.Equal(got.GetPodIps(), []string{"10.128.2.7", "10.128.2.9", "10.128.2.10"}) {
		t.Errorf("pods are %v", got)
	}
	op.want(t, "bank", "192.0.2.8")
	f.until("n1", "192.0.2.7", "192.0.2.8")
	a, b := hosted()[0], hosted()[1]
	if !a.GetMatchPods() || !b.GetMatchPods() || a.GetSlot() == b.GetSlot() || a.GetNetid() != b.GetNetid() {
		t.Errorf("joined they are %v and %v", a, b)
	}
	if got := next(); got.GetNamespace() != "bank" || !slices.Equal(got.GetPodIps(), []string{"10.128.2.8"}) {
		t.Errorf("pods are %v", got)
	}
	_, err = op.SetNetNamespaceEgress(soon(t), &egressv1.SetNetNamespaceEgressRequest{NetNamespaceEgress: &egressv1.NetNamespaceEgress{
		Namespace: "shop", EgressIps: []string{"192.0.2.7"},
		Pods: []*egressv1.PodEgress{{Name: "web", PodSelector: map[string]string{"app": "web"}, EgressIps: []string{"192.0.2.9"}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	f.until("n1", "192.0.2.7", "192.0.2.8", "192.0.2.9")
	lists := map[string][]string{}
	for range 2 {
		list := next()
		lists[list.GetSelection()] = list.GetPodIps()
	}
	if !slices.Equal(lists["web"], []string{"10.128.2.7"}) || !slices.Equal(lists["default"], []string{"10.128.2.9", "10.128.2.10"}) {
		t.Errorf("pods are %v", lists)
	}
	// Without addresses for the rest, its nodes must know all the same who that is.
	_, err = op.SetNetNamespaceEgress(soon(t), &egressv1.SetNetNamespaceEgressRequest{NetNamespaceEgress: &egressv1.NetNamespaceEgress{
		Namespace: "shop",
		Pods:      []*egressv1.PodEgress{{Name: "db", PodSelector: map[string]string{"app": "db"}, EgressIps: []string{"192.0.2.9"}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	f.until("n1", "192.0.2.8", "192.0.2.9")
	page, err := op.ListEgressPods(soon(t), &egressv1.ListEgressPodsRequest{Namespaces: []string{"shop"}})
	if err != nil {
		t.Fatal(err)
	}
	clear(lists)
	for _, list := range page.GetEgressPods() {
		lists[list.GetSelection()] = list.GetPodIps()
	}
	if len(lists) != 2 || !slices.Equal(lists["db"], []string{"10.128.2.10"}) || !slices.Equal(lists["default"], []string{"10.128.2.7", "10.128.2.9"}) {
		t.Errorf("pods are %v", lists)
	}
	assigned, err := op.ListEgressAssignments(soon(t), &egressv1.ListEgressAssignmentsRequest{Namespaces: []string{"shop"}})
	if err != nil || len(assigned.GetEgressAssignments()) != 1 {
		t.Errorf("assignments are %v, %v, want that of the selection alone", assigned, err)
	}
}
