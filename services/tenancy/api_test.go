package tenancy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/rpcerr"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

const (
	flat        = tenancyv1.IsolationMode_ISOLATION_MODE_SUBNET
	multitenant = tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT
)

func (c client) create(t *testing.T, name string, number ...uint32) *tenancyv1.NetNamespace {
	t.Helper()
	r := &tenancyv1.CreateNetNamespaceRequest{Name: name}
	if len(number) > 0 {
		r.Netid = &number[0]
	}
	answer, err := c.CreateNetNamespace(soon(t), r)
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	return answer.GetNetNamespace()
}

func TestEveryRefusalHasItsCodeAndReason(t *testing.T) {
	sys := start(t, vnid.Range{First: 10, Last: 12})
	op, node := sys.operator(), sys.node("n1")
	op.create(t, "shop", 10)
	op.create(t, "web", 11)
	if _, err := node.RegisterPod(soon(t), &tenancyv1.RegisterPodRequest{Pod: pod("n1", "shop", "a", "s1")}); err != nil {
		t.Fatal(err)
	}
	number := func(n uint32) *uint32 { return &n }
	unready := &tenancyv1.PodConditions{Ready: proto.Bool(false)}
	create := func(r *tenancyv1.CreateNetNamespaceRequest) func() error {
		return func() error { _, err := op.CreateNetNamespace(soon(t), r); return err }
	}
	cases := []struct {
		name   string
		call   func() error
		code   codes.Code
		reason string
	}{
		{"a taken VNID", create(&tenancyv1.CreateNetNamespaceRequest{Name: "new", Netid: number(10)}), codes.FailedPrecondition, "VNID_TAKEN"},
		{"a reserved VNID", create(&tenancyv1.CreateNetNamespaceRequest{Name: "new", Netid: number(2)}), codes.InvalidArgument, "INVALID_FIELD"},
		{"a VNID of 25 bits", create(&tenancyv1.CreateNetNamespaceRequest{Name: "new", Netid: number(1 << 24)}), codes.InvalidArgument, "INVALID_FIELD"},
		{"a VNID for default", create(&tenancyv1.CreateNetNamespaceRequest{Name: "default", Netid: number(12)}), codes.InvalidArgument, "INVALID_FIELD"},
		{"another VNID for what exists", create(&tenancyv1.CreateNetNamespaceRequest{Name: "shop", Netid: number(12)}), codes.AlreadyExists, "ALREADY_EXISTS"},
		{"other labels for what exists", create(&tenancyv1.CreateNetNamespaceRequest{Name: "shop", Labels: map[string]string{"a": "b"}}), codes.AlreadyExists, "ALREADY_EXISTS"},
		{"delete of default", func() error {
			_, err := op.DeleteNetNamespace(soon(t), &tenancyv1.DeleteNetNamespaceRequest{Name: "default"})
			return err
		}, codes.FailedPrecondition, "DEFAULT_NAMESPACE"},
		{"delete of a namespace with pods", func() error {
			_, err := op.DeleteNetNamespace(soon(t), &tenancyv1.DeleteNetNamespaceRequest{Name: "shop"})
			return err
		}, codes.FailedPrecondition, "HAS_PODS"},
		{"isolate of default", func() error {
			_, err := op.IsolateNetNamespace(soon(t), &tenancyv1.IsolateNetNamespaceRequest{Name: "default"})
			return err
		}, codes.FailedPrecondition, "DEFAULT_NAMESPACE"},
		{"get of the unknown", func() error {
			_, err := op.GetNetNamespace(soon(t), &tenancyv1.GetNetNamespaceRequest{Name: "gone"})
			return err
		}, codes.NotFound, "NOT_FOUND"},
		{"join to the unknown", func() error {
			_, err := op.JoinNetNamespace(soon(t), &tenancyv1.JoinNetNamespaceRequest{Name: "shop", Target: "gone"})
			return err
		}, codes.NotFound, "NOT_FOUND"},
		{"egress routers of the unknown", func() error {
			_, err := op.SetNetNamespaceEgressRouters(soon(t), &tenancyv1.SetNetNamespaceEgressRoutersRequest{Name: "gone"})
			return err
		}, codes.NotFound, "NOT_FOUND"},
		{"egress routers by a node", func() error {
			_, err := node.SetNetNamespaceEgressRouters(soon(t), &tenancyv1.SetNetNamespaceEgressRoutersRequest{Name: "shop", Sources: []string{"192.0.2.0/24"}})
			return err
		}, codes.PermissionDenied, ""},
		{"multicast of the unknown", func() error {
			_, err := op.SetNetNamespaceMulticast(soon(t), &tenancyv1.SetNetNamespaceMulticastRequest{Name: "gone", Enabled: true})
			return err
		}, codes.NotFound, "NOT_FOUND"},
		{"multicast of no name", func() error {
			_, err := op.SetNetNamespaceMulticast(soon(t), &tenancyv1.SetNetNamespaceMulticastRequest{Name: "No_Name"})
			return err
		}, codes.InvalidArgument, "INVALID_FIELD"},
		{"policy log of the unknown", func() error {
			_, err := op.SetNetNamespacePolicyLog(soon(t), &tenancyv1.SetNetNamespacePolicyLogRequest{Name: "gone", Denied: true})
			return err
		}, codes.NotFound, "NOT_FOUND"},
		{"policy log of no name", func() error {
			_, err := op.SetNetNamespacePolicyLog(soon(t), &tenancyv1.SetNetNamespacePolicyLogRequest{Name: "No_Name"})
			return err
		}, codes.InvalidArgument, "INVALID_FIELD"},
		{"policy log by a node", func() error {
			_, err := node.SetNetNamespacePolicyLog(soon(t), &tenancyv1.SetNetNamespacePolicyLogRequest{Name: "shop", Denied: true})
			return err
		}, codes.PermissionDenied, ""},
		{"multicast by a node", func() error {
			_, err := node.SetNetNamespaceMulticast(soon(t), &tenancyv1.SetNetNamespaceMulticastRequest{Name: "shop", Enabled: true})
			return err
		}, codes.PermissionDenied, ""},
		{"conditions of no pod", func() error {
			_, err := op.SetPodConditions(soon(t), &tenancyv1.SetPodConditionsRequest{Namespace: "shop", Name: "gone", Conditions: unready})
			return err
		}, codes.NotFound, "NOT_FOUND"},
		{"conditions of another sandbox", func() error {
			_, err := op.SetPodConditions(soon(t), &tenancyv1.SetPodConditionsRequest{Namespace: "shop", Name: "a", Conditions: unready, SandboxId: "s0"})
			return err
		}, codes.NotFound, "NOT_FOUND"},
		{"no mode", func() error { _, err := op.SetIsolation(soon(t), &tenancyv1.SetIsolationRequest{}); return err }, codes.InvalidArgument, "INVALID_FIELD"},
		{"an unknown mode", func() error {
			_, err := op.SetIsolation(soon(t), &tenancyv1.SetIsolationRequest{Mode: 9})
			return err
		}, codes.InvalidArgument, "INVALID_FIELD"},
		{"a page token of somebody else", func() error {
			_, err := op.ListNetNamespaces(soon(t), &tenancyv1.ListNetNamespacesRequest{PageToken: "%"})
			return err
		}, codes.InvalidArgument, "INVALID_FIELD"},
		{"a page that is too large", func() error {
			_, err := op.ListPods(soon(t), &tenancyv1.ListPodsRequest{PageSize: 5001})
			return err
		}, codes.InvalidArgument, "INVALID_FIELD"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := c.call()
			if status.Code(err) != c.code || rpcerr.Reason(err) != c.reason {
				t.Errorf("%v with reason %q, want %v with %q", err, rpcerr.Reason(err), c.code, c.reason)
			}
		})
	}
}

func TestABadRequestNamesEveryProblem(t *testing.T) {
	sys := start(t, vnid.Default())
	two := uint32(2)
	_, err := sys.operator().CreateNetNamespace(soon(t), &tenancyv1.CreateNetNamespaceRequest{
		Name: "Shop_", Netid: &two, Labels: map[string]string{"-a": "b", "ok": "not ok", "kubernetes.io/metadata.name": "other"},
	})
	want := []string{"name", "labels", "labels[ok]", "labels", "netid"}
	if got := fields(err); !slices.Equal(got, want) {
		t.Errorf("create: violations of %v, want %v: %v", got, want, err)
	}
	bad := pod("n2", "Shop", "w_b", "")
	bad.Ips = []string{"10.128.0.02", "fe80::1%eth0"}
	bad.Ports = []*tenancyv1.ContainerPort{
		{ContainerPort: 1}, {Name: "Web", ContainerPort: 65536, Protocol: 9}, {Name: "http", ContainerPort: 80}, {Name: "http", ContainerPort: 81},
	}
	bad.Zone = "not ok"
	_, err = sys.node("n1").SyncNodePods(soon(t), &tenancyv1.SyncNodePodsRequest{
		Node: "n1", Pods: []*tenancyv1.Pod{pod("n1", "shop", "a", "s1"), bad, pod("n1", "shop", "a", "s2")},
	})
	want = []string{"pods[1].namespace", "pods[1].name", "pods[1].sandbox_id", "pods[1].ips[0]", "pods[1].ips[1]",
		"pods[1].ports[1].name", "pods[1].ports[1].container_port", "pods[1].ports[1].protocol", "pods[1].zone", "pods[1].node", "pods[2]"}
	if got := fields(err); !slices.Equal(got, want) {
		t.Errorf("sync: violations of %v, want %v: %v", got, want, err)
	}
	crowded := pod("n1", "shop", "a", "s1")
	crowded.Ports = make([]*tenancyv1.ContainerPort, 1001)
	_, err = sys.node("n1").RegisterPod(soon(t), &tenancyv1.RegisterPodRequest{Pod: crowded})
	if got := fields(err); !slices.Equal(got, []string{"pod.ports"}) {
		t.Errorf("too many ports: violations of %v: %v", got, err)
	}
	_, err = sys.operator().SetPodConditions(soon(t), &tenancyv1.SetPodConditionsRequest{SandboxId: "a b"})
	want = []string{"namespace", "name", "conditions", "sandbox_id"}
	if got := fields(err); !slices.Equal(got, want) {
		t.Errorf("conditions: violations of %v, want %v: %v", got, want, err)
	}
	_, err = sys.operator().SetPodConditions(soon(t), &tenancyv1.SetPodConditionsRequest{Namespace: "shop", Name: "a", Conditions: &tenancyv1.PodConditions{}})
	if got := fields(err); !slices.Equal(got, []string{"conditions"}) {
		t.Errorf("no conditions: violations of %v: %v", got, err)
	}
}

func fields(err error) []string {
	var list []string
	for _, violation := range rpcerr.List(err) {
		list = append(list, violation.Field)
	}
	return list
}

func TestExhaustionIsCountedAndSaysSo(t *testing.T) {
	sys := start(t, vnid.Range{First: 10, Last: 11})
	op := sys.operator()
	op.create(t, "a")
	op.create(t, "b")
	_, err := op.CreateNetNamespace(soon(t), &tenancyv1.CreateNetNamespaceRequest{Name: "c"})
	if status.Code(err) != codes.ResourceExhausted || rpcerr.Reason(err) != "EXHAUSTED" || !strings.Contains(err.Error(), "all 2 VNIDs are taken") {
		t.Errorf("create: %v", err)
	}
	for name, want := range map[string]float64{
		"damask_tenancy_vnid_exhausted_total": 1, "damask_tenancy_vnids_allocated": 2, "damask_tenancy_vnids_capacity": 2,
	} {
		if got := sys.metric(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

func TestTheModeIsMultitenantUntilItIsSet(t *testing.T) {
	op := start(t, vnid.Default()).operator()
	get := func() *tenancyv1.Isolation {
		answer, err := op.GetIsolation(soon(t), &tenancyv1.GetIsolationRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetIsolation()
	}
	set := func(mode tenancyv1.IsolationMode) *tenancyv1.Isolation {
		answer, err := op.SetIsolation(soon(t), &tenancyv1.SetIsolationRequest{Mode: mode})
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetIsolation()
	}
	if got := get(); got.GetMode() != multitenant || got.GetRevision() != 0 {
		t.Errorf("at first %v", got)
	}
	first := set(flat)
	if again := set(flat); !proto.Equal(first, again) || first.GetRevision() == 0 || !proto.Equal(get(), first) {
		t.Errorf("set %v, again %v, get %v", first, again, get())
	}
	op.create(t, "shop")
	_, err := op.MakeNetNamespaceGlobal(soon(t), &tenancyv1.MakeNetNamespaceGlobalRequest{Name: "shop"})
	if rpcerr.Reason(err) != "WRONG_MODE" {
		t.Errorf("global in subnet mode: %v", err)
	}
	if got := set(multitenant); got.GetRevision() <= first.GetRevision() {
		t.Errorf("set back: %v", got)
	}
}

func TestANewClusterBeginsWithTheConfiguredMode(t *testing.T) {
	sys := newSystem(t)
	sys.initial = flat
	for _, want := range []tenancyv1.IsolationMode{flat, multitenant} {
		sys.address = sys.startReplica(vnid.Default(), prometheus.NewRegistry())
		op := sys.operator()
		got, err := op.GetIsolation(soon(t), &tenancyv1.GetIsolationRequest{})
		if err != nil || got.GetIsolation().GetMode() != want || got.GetIsolation().GetRevision() == 0 {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
		// What somebody set stays, when a replica starts.
		if _, err := op.SetIsolation(soon(t), &tenancyv1.SetIsolationRequest{Mode: multitenant}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestListPagesCoverAllNamespacesInOrder(t *testing.T) {
	op := start(t, vnid.Default()).operator()
	want := []string{"default"}
	for i := range 25 {
		name := fmt.Sprintf("tenant-%d", i)
		op.create(t, name)
		want = append(want, name)
	}
	slices.Sort(want)
	var got []string
	r := &tenancyv1.ListNetNamespacesRequest{PageSize: 4}
	for {
		page, err := op.ListNetNamespaces(soon(t), r)
		if err != nil {
			t.Fatal(err)
		}
		for _, ns := range page.GetNetNamespaces() {
			got = append(got, ns.GetName())
		}
		if r.PageToken = page.GetNextPageToken(); r.GetPageToken() == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	page, err := op.ListNetNamespaces(soon(t), &tenancyv1.ListNetNamespacesRequest{Names: []string{"tenant-3", "gone", "default"}})
	if err != nil || len(page.GetNetNamespaces()) != 2 {
		t.Errorf("those named: %v, %v", page, err)
	}
}
