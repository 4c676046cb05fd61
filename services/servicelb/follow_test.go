package servicelb

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/follow"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/internal/serviceview"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// endpoints follows the slices as a node does: from lists and the bus.
type endpoints struct {
	t        *testing.T
	follower *follow.Follower[*servicelbv1.EndpointSlice]
	changed  chan struct{}
}

func (s *system) followEndpoints(node string) *endpoints {
	t := s.t
	t.Helper()
	nc, err := natsd.Connect([]string{s.store.URL()}, s.ca.Source(t, identity.Node(node)), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	c := s.node(node)
	e := &endpoints{t: t, changed: make(chan struct{}, 1)}
	e.follower = follow.New(nc, follow.Source[*servicelbv1.EndpointSlice]{
		Service: "servicelb", Kind: "endpointslice", Nested: true,
		List: func(ctx context.Context, _ []string) ([]*servicelbv1.EndpointSlice, uint64, error) {
			page, err := c.ListEndpointSlices(ctx, &servicelbv1.ListEndpointSlicesRequest{PageSize: 1000})
			return page.GetEndpointSlices(), page.GetSequence(), err
		},
		Name:     func(s *servicelbv1.EndpointSlice) string { return s.GetNamespace() + "/" + s.GetName() },
		Revision: (*servicelbv1.EndpointSlice).GetRevision,
	}, follow.Options[*servicelbv1.EndpointSlice]{All: true, Log: hclog.NewNullLogger(), OnChange: func(follow.Event[*servicelbv1.EndpointSlice]) {
		select {
		case e.changed <- struct{}{}:
		default:
		}
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.follower.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return e
}

// until waits until a service's backends are the wanted addresses with ports.
func (e *endpoints) until(service, want string) {
	e.t.Helper()
	e.await("backends of "+service, want, func() string {
		var list []string
		for _, s := range e.follower.Snapshot() {
			for _, backend := range s.GetEndpoints() {
				if s.GetServiceName() == service {
					list = append(list, fmt.Sprintf("%s:%d", backend.GetAddresses()[0], s.GetPorts()[0].GetPort()))
				}
			}
		}
		slices.Sort(list)
		return strings.Join(list, " ")
	})
}

// await waits until what the follower knows reads as wanted.
func (e *endpoints) await(what, want string, read func() string) {
	e.t.Helper()
	ctx := soon(e.t)
	for {
		if got := read(); got == want {
			return
		} else if ctx.Err() != nil {
			e.t.Fatalf("%s are %q, want %q", what, got, want)
		}
		select {
		case <-e.changed:
		case <-ctx.Done():
		}
	}
}

// untilUsed waits until the backends that a node of the zone west uses for a
// service are the wanted ones.
func (e *endpoints) untilUsed(service *servicelbv1.Service, want string) {
	e.t.Helper()
	e.await("backends in use", want, func() string {
		view, err := serviceview.Compute(service, slices.Collect(maps.Values(e.follower.Snapshot())), serviceview.Node{Name: "n1", Zone: "west"})
		if err != nil {
			e.t.Fatal(err)
		}
		zones := map[string]string{}
		for _, s := range e.follower.Snapshot() {
			for _, backend := range s.GetEndpoints() {
				zones[backend.GetAddresses()[0]] = backend.GetZone()
			}
		}
		var list []string
		for _, b := range view.Ports[0].Internal {
			text := b.Address.Addr().String() + " in " + zones[b.Address.Addr().String()]
			if b.Draining {
				text += " draining"
			}
			list = append(list, text)
		}
		return strings.Join(list, ", ")
	})
}

func labels(app string) map[string]string { return map[string]string{"app": app} }

func TestEndpointsFollowPodsByTheirLabels(t *testing.T) {
	sys := newSystem(t)
	registry := sys.startTenancy()
	for i := range 5 { // pods that are there before the service starts
		registry.register(fmt.Sprintf("old-%d", i), fmt.Sprintf("10.128.0.%d", i), labels("old"))
	}
	sys.address = sys.startReplica(large(), prometheus.NewRegistry())
	sys.startReplica(large(), prometheus.NewRegistry()) // two look at the same
	op, node := sys.operator(), sys.followEndpoints("n1")

	op.create(t, web("old", selecting("old")))
	node.until("old", "10.128.0.0:8080 10.128.0.1:8080 10.128.0.2:8080 10.128.0.3:8080 10.128.0.4:8080")
	op.create(t, web("web", selecting("web")))
	registry.register("a", "10.128.1.1", labels("web"))
	node.until("web", "10.128.1.1:8080")
	registry.register("b", "10.128.1.2", labels("web"))
	node.until("web", "10.128.1.1:8080 10.128.1.2:8080")
	registry.register("a", "10.128.1.1", labels("db")) // relabelled
	node.until("web", "10.128.1.2:8080")
	registry.register("b", "10.128.1.9", labels("web")) // another sandbox
	node.until("web", "10.128.1.9:8080")

	op.update(t, web("web", selecting("db")))
	node.until("web", "10.128.1.1:8080")
	op.update(t, web("web", selecting("db"), func(s *servicelbv1.Service) { s.Ports[0].TargetPort = "9090" }))
	node.until("web", "10.128.1.1:9090")
	registry.unregister("a")
	node.until("web", "")
	op.update(t, web("web", selecting("old")))
	node.until("web", "10.128.0.0:8080 10.128.0.1:8080 10.128.0.2:8080 10.128.0.3:8080 10.128.0.4:8080")
	op.update(t, web("web")) // no selector: endpoints are somebody else's now
	node.until("web", "")
	op.remove(t, "old")
	node.until("old", "")
}

func TestEndpointsFollowWhatPodsCallAPort(t *testing.T) {
	sys := newSystem(t)
	registry := sys.startTenancy()
	sys.address = sys.startReplica(large(), prometheus.NewRegistry())
	sys.startReplica(large(), prometheus.NewRegistry()) // two look at the same
	op, node := sys.operator(), sys.followEndpoints("n1")
	named := func(name, ip string, port uint32) {
		t.Helper()
		registry.put(&tenancyv1.Pod{Name: name, Ips: []string{ip}, Labels: labels("web"), Ports: []*tenancyv1.ContainerPort{
			{Name: "http", ContainerPort: port, Protocol: tenancyv1.Protocol_PROTOCOL_TCP},
		}})
	}
	named("a", "10.128.1.1", 8080)
	named("b", "10.128.1.2", 9090)
	registry.register("c", "10.128.1.3", labels("web")) // declares nothing
	op.create(t, web("web", selecting("web"), func(s *servicelbv1.Service) { s.Ports[0].TargetPort = "http" }))
	node.until("web", "10.128.1.1:8080 10.128.1.2:9090")
	named("c", "10.128.1.3", 9090)
	node.until("web", "10.128.1.1:8080 10.128.1.2:9090 10.128.1.3:9090")
	named("a", "10.128.1.1", 9090) // a new version
	node.until("web", "10.128.1.1:9090 10.128.1.2:9090 10.128.1.3:9090")
	op.update(t, web("web", selecting("web"))) // by number
	node.until("web", "10.128.1.1:8080 10.128.1.2:8080 10.128.1.3:8080")
	op.update(t, web("web", selecting("web"), func(s *servicelbv1.Service) { s.Ports[0].TargetPort = "gone" }))
	node.until("web", "")
}

func TestAPodThatIsOnItsWayOutServesWhileItIsAllThereIs(t *testing.T) {
	sys := newSystem(t)
	registry := sys.startTenancy()
	sys.address = sys.startReplica(large(), prometheus.NewRegistry())
	op, node := sys.operator(), sys.followEndpoints("n1")
	pod := func(name, ip string, c *tenancyv1.PodConditions) {
		t.Helper()
		registry.put(&tenancyv1.Pod{Name: name, Ips: []string{ip}, Labels: labels("web"), Zone: "west", Conditions: c})
	}
	service := op.create(t, web("web", selecting("web")))
	pod("a", "10.128.1.1", nil)
	pod("b", "10.128.1.2", &tenancyv1.PodConditions{Ready: proto.Bool(false)})
	node.untilUsed(service, "10.128.1.1 in west")
	pod("b", "10.128.1.2", nil)
	node.untilUsed(service, "10.128.1.1 in west, 10.128.1.2 in west")
	pod("a", "10.128.1.1", &tenancyv1.PodConditions{Terminating: proto.Bool(true)})
	node.untilUsed(service, "10.128.1.2 in west")
	pod("b", "10.128.1.2", &tenancyv1.PodConditions{Terminating: proto.Bool(true)})
	node.untilUsed(service, "10.128.1.1 in west draining, 10.128.1.2 in west draining")
	pod("b", "10.128.1.2", &tenancyv1.PodConditions{Terminating: proto.Bool(true), Ready: proto.Bool(false)})
	node.untilUsed(service, "10.128.1.1 in west draining")
	registry.unregister("a")
	node.untilUsed(service, "")
}

// TestSlicesThatWereLeftBehindAreCollected begins with a store in which a slice
// has outlived its service.
func TestSlicesThatWereLeftBehindAreCollected(t *testing.T) {
	sys := newSystem(t)
	sys.write(func(tx *bucket.Tx) {
		left := managed(10, "web.pods-0")[0]
		bucket.NewTable[*servicelbv1.EndpointSlice]("endpointslice").Put(tx, left, "shop", "web.pods-0")
	})
	sys.startTenancy()
	sys.address = sys.startReplica(large(), prometheus.NewRegistry())
	node := sys.followEndpoints("n1")
	sys.operator().put(t, sliceOf("by-hand", "by-hand", "192.0.2.1"))
	node.until("by-hand", "192.0.2.1:8080") // is nobody's here, and the node knows all there is
	node.until("web", "")
}

func TestTheSelectorsSlicesAreNobodyElses(t *testing.T) {
	sys := newSystem(t)
	registry := sys.startTenancy()
	sys.address = sys.startReplica(large(), prometheus.NewRegistry())
	op, node := sys.operator(), sys.followEndpoints("n1")
	op.put(t, sliceOf("web", "by-hand", "192.0.2.1"))
	op.create(t, web("web", func(s *servicelbv1.Service) { s.Selector = labels("web") }))
	registry.register("a", "10.128.1.1", labels("web"))
	node.until("web", "10.128.1.1:8080 192.0.2.1:8080")
	_, err := op.PutEndpointSlice(soon(t), &servicelbv1.PutEndpointSliceRequest{EndpointSlice: sliceOf("web", "web.pods-0", "192.0.2.2")})
	if rpcerr.Reason(err) != "INVALID_FIELD" {
		t.Errorf("put: %v", err)
	}
	_, err = op.DeleteEndpointSlice(soon(t), &servicelbv1.DeleteEndpointSliceRequest{Namespace: "shop", Name: "web.pods-0"})
	if rpcerr.Reason(err) != "INVALID_FIELD" {
		t.Errorf("delete: %v", err)
	}
	op.remove(t, "web")
	node.until("web", "")
}

func TestClusterIPsComeFromTheAddressPlan(t *testing.T) {
	sys := newSystem(t)
	plan := sys.startIPAM()
	sys.address = sys.startReplica(Config{}, prometheus.NewRegistry())
	op := sys.operator()
	create := func(name string) (*servicelbv1.Service, error) {
		answer, err := op.CreateService(soon(t), &servicelbv1.CreateServiceRequest{Service: web(name)})
		return answer.GetService(), err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300_000_000)
	defer cancel()
	_, err := op.CreateService(ctx, &servicelbv1.CreateServiceRequest{Service: web("early")})
	if err == nil {
		t.Fatal("a cluster IP of no network")
	}
	if code := status.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded {
		t.Errorf("before the plan: %v", err)
	}
	if _, err := op.CreateService(soon(t), &servicelbv1.CreateServiceRequest{Service: web("headless", func(s *servicelbv1.Service) { s.ClusterIps = []string{"None"} })}); err != nil {
		t.Errorf("headless needs no plan: %v", err)
	}

	plan.plan("172.30.0.0/30")
	first, err := create("first") // rpcdial tries again until the plan is there
	if err != nil || !strings.HasPrefix(first.GetClusterIps()[0], "172.30.0.") {
		t.Fatalf("first: %v, %v", first, err)
	}
	if _, err := create("second"); err != nil {
		t.Fatal(err)
	}
	if _, err := create("third"); status.Code(err) != codes.ResourceExhausted {
		t.Fatalf("third: %v", err)
	}
	plan.plan("172.30.0.0/30", "172.31.0.0/30")
	for deadline := soon(t); ; {
		third, err := create("third")
		if err == nil {
			if !strings.HasPrefix(third.GetClusterIps()[0], "172.31.0.") {
				t.Errorf("third: %v", third)
			}
			break
		}
		if deadline.Err() != nil {
			t.Fatal(err)
		}
	}
}
