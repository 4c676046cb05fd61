package tenancy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

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
	_, err = sys.node("n1").SyncNodePods(soon(t), &tenancyv1.SyncNodePodsRequest{
		Node: "n1", Pods: []*tenancyv1.Pod{pod("n1", "shop", "a", "s1"), bad, pod("n1", "shop", "a", "s2")},
	})
	want = []string{"pods[1].namespace", "pods[1].name", "pods[1].sandbox_id", "pods[1].ips[0]", "pods[1].ips[1]", "pods[1].node", "pods[2]"}
	if got := fields(err); !slices.Equal(got, want) {
		t.Errorf("sync: violations of %v, want %v: %v", got, want, err)
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

func pod(node, namespace, name, sandbox string) *tenancyv1.Pod {
	return &tenancyv1.Pod{Namespace: namespace, Name: name, Node: node, SandboxId: sandbox, Ips: []string{"10.128.0.2"}}
}

func TestPodsAreListedWithTheirVNIDsInOrder(t *testing.T) {
	sys := start(t, vnid.Default())
	op := sys.operator()
	op.create(t, "shop", 42)
	for _, p := range []*tenancyv1.Pod{
		pod("n1", "shop", "web", "s1"), pod("n2", "shop", "db", "s2"), pod("n2", "later", "web", "s3"),
	} {
		if _, err := sys.node(p.GetNode()).RegisterPod(soon(t), &tenancyv1.RegisterPodRequest{Pod: p}); err != nil {
			t.Fatal(err)
		}
	}
	list := func(r *tenancyv1.ListPodsRequest) string {
		var all []string
		for {
			page, err := op.ListPods(soon(t), r)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range page.GetPods() {
				number := "none"
				if p.Netid != nil {
					number = fmt.Sprint(p.GetNetid())
				}
				all = append(all, fmt.Sprintf("%s/%s=%s", p.GetNamespace(), p.GetName(), number))
			}
			if r.PageToken = page.GetNextPageToken(); r.GetPageToken() == "" {
				return strings.Join(all, " ")
			}
		}
	}
	for want, r := range map[string]*tenancyv1.ListPodsRequest{
		"later/web=none shop/db=42 shop/web=42": {PageSize: 1},
		"shop/db=42 shop/web=42":                {Namespace: "shop", PageSize: 1},
		"later/web=none shop/db=42":             {Node: "n2"},
		"shop/db=42":                            {Node: "n2", Namespace: "shop"},
		"":                                      {Node: "n3"},
	} {
		if got := list(r); got != want {
			t.Errorf("list: %q, want %q", got, want)
		}
	}
	if got := sys.metric("damask_tenancy_pods_registered"); got != 3 {
		t.Errorf("%v pods are counted, want 3", got)
	}
}

func TestSyncWritesDifferencesOnly(t *testing.T) {
	sys := start(t, vnid.Default())
	n1, n2 := sys.node("n1"), sys.node("n2")
	sync := func(c client, node string, pods ...*tenancyv1.Pod) string {
		t.Helper()
		answer, err := c.SyncNodePods(soon(t), &tenancyv1.SyncNodePodsRequest{Node: node, Pods: pods})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(answer.GetWritten(), answer.GetRemoved(), answer.GetSuperseded())
	}
	at := func(p *tenancyv1.Pod, second int64) *tenancyv1.Pod {
		p.AttachTime = timestamppb.New(time.Unix(1_800_000_000+second, 0))
		return p
	}
	a, b := at(pod("n1", "shop", "a", "s1"), 0), at(pod("n1", "shop", "b", "s2"), 0)
	for _, step := range []struct{ what, got, want string }{
		{"two new pods", sync(n1, "n1", a, b), "2 0 0"},
		{"the same again", sync(n1, "n1", a, b), "0 0 0"},
		{"one is gone", sync(n1, "n1", a), "0 1 0"},
		{"another node has nothing to do with it", sync(n2, "n2"), "0 0 0"},
		{"a newer sandbox of a on n2", sync(n2, "n2", at(pod("n2", "shop", "a", "s3"), 5)), "1 0 0"},
		{"n1 comes back with the old sandbox", sync(n1, "n1", a), "0 0 1"},
		{"n1 has none, which does not touch n2's", sync(n1, "n1"), "0 0 0"},
	} {
		if step.got != step.want {
			t.Errorf("%s: %s written, removed, superseded, want %s", step.what, step.got, step.want)
		}
	}
	var many []*tenancyv1.Pod
	for i := range 1300 { // more than one commit can write
		many = append(many, pod("n1", "big", fmt.Sprintf("p%d", i), "s"))
	}
	if got := sync(n1, "n1", many...); got != "1300 0 0" {
		t.Errorf("many: %s", got)
	}
	if got := sync(n1, "n1", many[0]); got != "0 1299 0" {
		t.Errorf("all but one gone: %s", got)
	}
}

func TestALateReportOfAnOldSandboxDoesNoHarm(t *testing.T) {
	sys := start(t, vnid.Default())
	n1, n2 := sys.node("n1"), sys.node("n2")
	register := func(c client, p *tenancyv1.Pod) *tenancyv1.Pod {
		t.Helper()
		answer, err := c.RegisterPod(soon(t), &tenancyv1.RegisterPodRequest{Pod: p})
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetPod()
	}
	old, fresh := pod("n1", "shop", "a", "s1"), pod("n2", "shop", "a", "s2")
	old.AttachTime, fresh.AttachTime = timestamppb.New(time.Unix(100, 0)), timestamppb.New(time.Unix(200, 0))
	first := register(n1, old)
	if again := register(n1, old); again.GetRevision() != first.GetRevision() {
		t.Errorf("the same report was written again: %v, %v", first, again)
	}
	register(n2, fresh)
	if got := register(n1, old); got.GetSandboxId() != "s2" {
		t.Errorf("the old sandbox came back: %v", got)
	}
	for _, gone := range []*tenancyv1.UnregisterPodRequest{
		{Namespace: "shop", Name: "a", Node: "n1", SandboxId: "s1"},
		{Namespace: "shop", Name: "a", Node: "n1", SandboxId: "s2"},
	} {
		if _, err := n1.UnregisterPod(soon(t), gone); err != nil {
			t.Fatal(err)
		}
	}
	page, err := sys.operator().ListPods(soon(t), &tenancyv1.ListPodsRequest{})
	if err != nil || len(page.GetPods()) != 1 || page.GetPods()[0].GetNode() != "n2" {
		t.Fatalf("after late removals: %v, %v", page, err)
	}
	if _, err := n2.UnregisterPod(soon(t), &tenancyv1.UnregisterPodRequest{Namespace: "shop", Name: "a", Node: "n2", SandboxId: "s2"}); err != nil {
		t.Fatal(err)
	}
	if page, err := sys.operator().ListPods(soon(t), &tenancyv1.ListPodsRequest{}); err != nil || len(page.GetPods()) != 0 {
		t.Errorf("after the removal: %v, %v", page, err)
	}
}

func TestANodeWritesOnlyItsOwnPods(t *testing.T) {
	sys := start(t, vnid.Default())
	n1 := sys.node("n1")
	calls := map[string]func() error{
		"register": func() error {
			_, err := n1.RegisterPod(soon(t), &tenancyv1.RegisterPodRequest{Pod: pod("n2", "shop", "a", "s1")})
			return err
		},
		"sync": func() error {
			_, err := n1.SyncNodePods(soon(t), &tenancyv1.SyncNodePodsRequest{Node: "n2"})
			return err
		},
		"unregister": func() error {
			_, err := n1.UnregisterPod(soon(t), &tenancyv1.UnregisterPodRequest{Node: "n2"})
			return err
		},
		"create a namespace": func() error {
			_, err := n1.CreateNetNamespace(soon(t), &tenancyv1.CreateNetNamespaceRequest{Name: "shop"})
			return err
		},
		"set the mode": func() error {
			_, err := n1.SetIsolation(soon(t), &tenancyv1.SetIsolationRequest{Mode: flat})
			return err
		},
	}
	for name, call := range calls {
		if err := call(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v, want PermissionDenied", name, err)
		}
	}
}
