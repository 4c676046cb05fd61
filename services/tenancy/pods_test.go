package tenancy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

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

func TestConditionsOutliveReportsButNotTheSandbox(t *testing.T) {
	sys := start(t, vnid.Default())
	op, n1 := sys.operator(), sys.node("n1")
	register := func(sandbox, ip string) *tenancyv1.Pod {
		t.Helper()
		p := pod("n1", "shop", "a", sandbox)
		p.Ips, p.Zone = []string{ip}, "west"
		p.Ports = []*tenancyv1.ContainerPort{{Name: "http", ContainerPort: 8080}}
		answer, err := n1.RegisterPod(soon(t), &tenancyv1.RegisterPodRequest{Pod: p})
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetPod()
	}
	say := func(c *tenancyv1.PodConditions) *tenancyv1.Pod {
		t.Helper()
		answer, err := op.SetPodConditions(soon(t), &tenancyv1.SetPodConditionsRequest{Namespace: "shop", Name: "a", Conditions: c})
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetPod()
	}
	first := register("s1", "10.128.0.2")
	if p := first.GetPorts(); len(p) != 1 || p[0].GetProtocol() != tenancyv1.Protocol_PROTOCOL_TCP || first.GetZone() != "west" {
		t.Errorf("stored %v", first)
	}
	if same := say(&tenancyv1.PodConditions{Ready: proto.Bool(true)}); same.GetRevision() != first.GetRevision() {
		t.Errorf("ready, as every pod at first, was written: %v", same)
	}
	unready := say(&tenancyv1.PodConditions{Ready: proto.Bool(false)})
	if again := say(&tenancyv1.PodConditions{Ready: proto.Bool(false)}); !proto.Equal(again, unready) || unready.GetRevision() <= first.GetRevision() {
		t.Errorf("again %v, first %v", again, unready)
	}
	if both := say(&tenancyv1.PodConditions{Terminating: proto.Bool(true)}).GetConditions(); !both.GetTerminating() || both.Ready == nil || both.GetReady() {
		t.Errorf("terminating, and not ready still: %v", both)
	}
	if kept := register("s1", "10.128.0.9").GetConditions(); !kept.GetTerminating() || kept.Ready == nil {
		t.Errorf("after another report %v", kept)
	}
	if _, err := n1.SyncNodePods(soon(t), &tenancyv1.SyncNodePodsRequest{Node: "n1", Pods: []*tenancyv1.Pod{pod("n1", "shop", "a", "s1")}}); err != nil {
		t.Fatal(err)
	}
	page, err := op.ListPods(soon(t), &tenancyv1.ListPodsRequest{})
	if err != nil || len(page.GetPods()) != 1 || !page.GetPods()[0].GetConditions().GetTerminating() || page.GetPods()[0].GetZone() != "" {
		t.Errorf("after a report of all pods: %v, %v", page, err)
	}
	if fresh := register("s2", "10.128.0.9"); fresh.GetConditions() != nil {
		t.Errorf("another sandbox begins with %v", fresh.GetConditions())
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
		"say how a pod is": func() error {
			_, err := n1.SetPodConditions(soon(t), &tenancyv1.SetPodConditionsRequest{Namespace: "shop", Name: "a"})
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
