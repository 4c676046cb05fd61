package servicelb

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/follow"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/internal/serviceview"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
)

func idled(s *servicelbv1.Service) {
	s.Annotations = map[string]string{serviceview.IdledAt: "2026-01-01T00:00:00Z"}
}

// report says, as a node, that a service has traffic.
func (s *system) report(node, name string) (*servicelbv1.NeedPods, error) {
	s.t.Helper()
	answer, err := s.node(node).ReportNeedPods(soon(s.t), &servicelbv1.ReportNeedPodsRequest{Namespace: "shop", Name: name, Node: node})
	return answer.GetNeedPods(), err
}

// mustReport is report where it must succeed.
func (s *system) mustReport(node, name string) *servicelbv1.NeedPods {
	s.t.Helper()
	got, err := s.report(node, name)
	if err != nil {
		s.t.Fatalf("report %s: %v", name, err)
	}
	return got
}

func unready(s *servicelbv1.EndpointSlice) *servicelbv1.EndpointSlice {
	s.Endpoints[0].Conditions = &servicelbv1.EndpointConditions{Ready: proto.Bool(false)}
	return s
}

func TestANodeReportsThatAnIdledServiceHasTraffic(t *testing.T) {
	sys := start(t, small())
	op := sys.operator()
	began := time.Now().Add(-time.Second)
	op.create(t, web("web", idled))
	op.put(t, unready(sliceOf("web", "web-1", "10.128.0.1")))

	first := sys.mustReport("n1", "web")
	if first.GetNamespace() != "shop" || first.GetName() != "web" || first.GetCount() != 1 || first.GetRevision() == 0 ||
		!slices.Equal(first.GetNodes(), []string{"n1"}) || first.GetFirstTime().AsTime().Before(began) || !proto.Equal(first.GetFirstTime(), first.GetLastTime()) {
		t.Errorf("first: %v", first)
	}
	if again := sys.mustReport("n1", "web"); !proto.Equal(again, first) {
		t.Errorf("the same at once: %v", again)
	}
	second := sys.mustReport("n2.example.com", "web")
	if second.GetCount() != 2 || !slices.Equal(second.GetNodes(), []string{"n1", "n2.example.com"}) || !proto.Equal(second.GetFirstTime(), first.GetFirstTime()) {
		t.Errorf("another node: %v", second)
	}
	page, err := op.ListNeedPods(soon(t), &servicelbv1.ListNeedPodsRequest{})
	if err != nil || len(page.GetNeedPods()) != 1 || !proto.Equal(page.GetNeedPods()[0], second) || page.GetSequence() < second.GetRevision() {
		t.Errorf("list: %v, %v", page, err)
	}
	if got := sys.metric("damask_servicelb_need_pods", ""); got != 1 {
		t.Errorf("%v services need pods", got)
	}
}

func TestAReportThatHasNoSenseIsRefused(t *testing.T) {
	sys := start(t, small())
	op := sys.operator()
	op.create(t, web("awake"))
	op.create(t, web("served", idled))
	op.put(t, sliceOf("served", "served-1", "10.128.0.1"))
	op.create(t, web("idled", idled))
	report := func(c client, r *servicelbv1.ReportNeedPodsRequest) func() error {
		return func() error { _, err := c.ReportNeedPods(soon(t), r); return err }
	}
	of := func(name string) *servicelbv1.ReportNeedPodsRequest {
		return &servicelbv1.ReportNeedPodsRequest{Namespace: "shop", Name: name, Node: "n1"}
	}
	list := func(c client, r *servicelbv1.ListNeedPodsRequest) func() error {
		return func() error { _, err := c.ListNeedPods(soon(t), r); return err }
	}
	for _, c := range []struct {
		name   string
		call   func() error
		code   codes.Code
		reason string
	}{
		{"no such service", report(sys.node("n1"), of("gone")), codes.NotFound, "NOT_FOUND"},
		{"a service that was not put to sleep", report(sys.node("n1"), of("awake")), codes.FailedPrecondition, "NOT_IDLED"},
		{"a service with an endpoint", report(sys.node("n1"), of("served")), codes.FailedPrecondition, "NOT_IDLED"},
		{"another node's name", report(sys.node("n2"), of("idled")), codes.PermissionDenied, ""},
		{"an operator", report(op, of("idled")), codes.PermissionDenied, ""},
		{"names that are none", report(sys.node("n1"), &servicelbv1.ReportNeedPodsRequest{Namespace: "A", Name: "b.c", Node: "n1"}), codes.InvalidArgument, "INVALID_FIELD"},
		{"a node that lists", list(sys.node("n1"), &servicelbv1.ListNeedPodsRequest{}), codes.PermissionDenied, ""},
		{"a page that is too large", list(op, &servicelbv1.ListNeedPodsRequest{PageSize: 5001}), codes.InvalidArgument, "INVALID_FIELD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.call(); status.Code(err) != c.code || rpcerr.Reason(err) != c.reason {
				t.Errorf("%v with reason %q, want %v with %q", err, rpcerr.Reason(err), c.code, c.reason)
			}
		})
	}
	if page, err := op.ListNeedPods(soon(t), &servicelbv1.ListNeedPodsRequest{}); err != nil || len(page.GetNeedPods()) != 0 {
		t.Errorf("after all that: %v, %v", page, err)
	}
}

func TestNeedsAreListedInPagesByNamespace(t *testing.T) {
	sys := start(t, large())
	op := sys.operator()
	var want []string
	for i := range 12 {
		s := web(fmt.Sprintf("w%02d", i), idled)
		s.Namespace = []string{"a", "shop"}[i%2]
		op.create(t, s)
		if _, err := sys.node("n1").ReportNeedPods(soon(t), &servicelbv1.ReportNeedPodsRequest{Namespace: s.Namespace, Name: s.Name, Node: "n1"}); err != nil {
			t.Fatal(err)
		}
		if s.Namespace == "shop" {
			want = append(want, s.Name)
		}
	}
	var got []string
	for r := (&servicelbv1.ListNeedPodsRequest{PageSize: 4, Namespaces: []string{"shop"}}); ; {
		page, err := op.ListNeedPods(soon(t), r)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range page.GetNeedPods() {
			got = append(got, n.GetName())
		}
		if r.PageToken = page.GetNextPageToken(); r.GetPageToken() == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// unidler follows needs as whoever starts pods does: from lists and the bus.
type unidler struct {
	t        *testing.T
	follower *follow.Follower[*servicelbv1.NeedPods]
	changed  chan struct{}
}

func (s *system) followNeeds() *unidler {
	t := s.t
	t.Helper()
	nc, err := natsd.Connect([]string{s.store.URL()}, s.ca.Source(t, identity.Operator("unidler")), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	op := s.operator()
	u := &unidler{t: t, changed: make(chan struct{}, 1)}
	u.follower = follow.New(nc, follow.Source[*servicelbv1.NeedPods]{
		Service: "servicelb", Kind: "needpods", Nested: true,
		List: func(ctx context.Context, _ []string) ([]*servicelbv1.NeedPods, uint64, error) {
			page, err := op.ListNeedPods(ctx, &servicelbv1.ListNeedPodsRequest{})
			return page.GetNeedPods(), page.GetSequence(), err
		},
		Name:     func(n *servicelbv1.NeedPods) string { return n.GetNamespace() + "/" + n.GetName() },
		Revision: (*servicelbv1.NeedPods).GetRevision,
	}, follow.Options[*servicelbv1.NeedPods]{All: true, Log: hclog.NewNullLogger(), OnChange: func(follow.Event[*servicelbv1.NeedPods]) {
		select {
		case u.changed <- struct{}{}:
		default:
		}
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- u.follower.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return u
}

// until waits until the wanted services need pods: "web@n1,n2 …".
func (u *unidler) until(want string) {
	u.t.Helper()
	ctx := soon(u.t)
	for {
		var list []string
		for _, n := range u.follower.Snapshot() {
			list = append(list, n.GetName()+"@"+strings.Join(n.GetNodes(), ","))
		}
		slices.Sort(list)
		if got := strings.Join(list, " "); got == want {
			return
		} else if ctx.Err() != nil {
			u.t.Fatalf("%q need pods, want %q", got, want)
		}
		select {
		case <-u.changed:
		case <-ctx.Done():
		}
	}
}

func TestANeedForPodsEndsWithItsReason(t *testing.T) {
	sys := newSystem(t)
	registry := sys.startTenancy()
	sys.address = sys.startReplica(large(), sys.metrics)
	sys.startReplica(large(), prometheus.NewRegistry()) // two look at the same
	op, unidler := sys.operator(), sys.followNeeds()
	selecting := func(s *servicelbv1.Service) {
		idled(s)
		s.Selector = labels("web")
	}
	for name, end := range map[string]func(){
		"an endpoint is there": func() { op.put(t, sliceOf("web", "web-1", "10.128.0.1")) },
		"one of two endpoints is ready": func() {
			op.put(t, unready(sliceOf("web", "web-1", "10.128.0.1", "10.128.0.2"))) // the first is not
		},
		"a pod is selected":       func() { registry.register("a", "10.128.1.1", labels("web")) },
		"the annotation is taken": func() { op.update(t, web("web")) },
		"the service became an alias": func() {
			s := web("web", idled)
			s.Type, s.ExternalName = servicelbv1.ServiceType_SERVICE_TYPE_EXTERNAL_NAME, "db.example.com"
			op.update(t, s)
		},
		"the service is deleted": func() { op.remove(t, "web") },
	} {
		t.Run(name, func(t *testing.T) {
			op.create(t, web("web", selecting))
			op.create(t, web("other", idled))
			op.put(t, unready(sliceOf("web", "web-0", "10.128.0.9")))
			sys.mustReport("n1", "web")
			sys.mustReport("n2", "other")
			sys.mustReport("n2", "web")
			unidler.until("other@n2 web@n1,n2")
			end()
			unidler.until("other@n2")
			if got, err := sys.report("n1", "web"); rpcerr.Reason(err) != "NOT_IDLED" && rpcerr.Reason(err) != "NOT_FOUND" {
				t.Errorf("a late report: %v, %v", got, err)
			}
			op.remove(t, "web")
			op.remove(t, "other")
			registry.unregister("a")
			unidler.until("")
		})
	}
	// Put to sleep again, it needs pods anew.
	op.create(t, web("web", idled))
	if got := sys.mustReport("n3", "web"); got.GetCount() != 1 || !slices.Equal(got.GetNodes(), []string{"n3"}) {
		t.Errorf("the second time: %v", got)
	}
	unidler.until("web@n3")
}

// TestNoNeedOutlivesEndpointsThatCameAtTheSameTime lets reports and endpoints meet in
// every order: neither may see the other.
func TestNoNeedOutlivesEndpointsThatCameAtTheSameTime(t *testing.T) {
	sys := newSystem(t)
	addresses := []string{sys.startReplica(large(), prometheus.NewRegistry()), sys.startReplica(large(), prometheus.NewRegistry())}
	sys.address = addresses[0]
	op, unidler := sys.as(identity.Operator("ann"), addresses[0]), sys.followNeeds()
	nodes := make([]client, 4)
	for i := range nodes {
		nodes[i] = sys.as(identity.Node(fmt.Sprintf("n%d", i)), addresses[i%2])
	}
	const rounds = 25
	for round := range rounds {
		name := fmt.Sprintf("w%d", round)
		op.create(t, web(name, idled))
		var group sync.WaitGroup
		for i, c := range nodes {
			group.Go(func() {
				_, err := c.ReportNeedPods(soon(t), &servicelbv1.ReportNeedPodsRequest{Namespace: "shop", Name: name, Node: fmt.Sprintf("n%d", i)})
				if err != nil && rpcerr.Reason(err) != "NOT_IDLED" {
					t.Error(err)
				}
			})
		}
		group.Go(func() { op.put(t, sliceOf(name, name+"-1", "10.128.0.1")) })
		group.Wait()
	}
	unidler.until("")
	for key := range sys.read().Scan("needpods.", "") {
		t.Errorf("the store keeps %v", key.Key)
	}
}

func TestReportsOfManyNodesCostFewWrites(t *testing.T) {
	store := newSystem(t).startCatalog()
	ctx, name, now := soon(t), catalog.Name{Namespace: "shop", Name: "web"}, time.Now()
	if _, err := store.Create(ctx, web("web", idled, func(s *servicelbv1.Service) { s.Type = servicelbv1.ServiceType_SERVICE_TYPE_CLUSTER_IP })); err != nil {
		t.Fatal(err)
	}
	report := func(node string, after time.Duration) *servicelbv1.NeedPods {
		t.Helper()
		got, err := store.ReportNeed(ctx, name, node, now.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for i := range 100 {
		report(fmt.Sprintf("n%d", i), time.Second)
	}
	got := report("n99", 2*time.Second)
	if got.GetCount() != 32 || len(got.GetNodes()) != 32 || got.GetNodes()[31] != "n31" {
		t.Errorf("100 nodes: %v", got)
	}
	if later := report("n99", 7*time.Second); later.GetCount() != 33 || len(later.GetNodes()) != 32 || later.GetLastTime().AsTime().Before(now.Add(6*time.Second)) {
		t.Errorf("later: %v", later)
	}
	before := report("n1", 0) // of a replica whose clock is behind
	if before.GetCount() != 33 || before.GetLastTime().AsTime().Before(now.Add(6*time.Second)) {
		t.Errorf("by a clock that is behind: %v", before)
	}
	if settled, err := store.SettleNeed(ctx, name); settled || err != nil {
		t.Errorf("a need that stands: %v, %v", settled, err)
	}
}
