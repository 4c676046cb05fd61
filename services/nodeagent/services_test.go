package nodeagent

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/serviceview"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/healthport"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
	"github.com/damask-sdn/damask/services/nodeagent/svcsync"
)

// wishes stand for the follower of NetNamespaces.
type wishes map[string]bool

func (w wishes) Want(name string) { w[name] = true }
func (w wishes) Drop(name string) { delete(w, name) }

func (w wishes) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := slices.Sorted(maps.Keys(w)); !slices.Equal(got, want) {
		t.Errorf("followed are %q, want %q", got, want)
	}
}

func TestANamespaceIsFollowedWhileAnybodyWantsIt(t *testing.T) {
	state, followed := intent.NewState("node1", true), wishes{}
	state.SetNetNamespace(&tenancyv1.NetNamespace{Name: "shop", Netid: 42})
	i := newInterest(followed, state, func(intent.Change) {})
	i.podsWant("shop")
	i.servicesWant([]string{"bank", "shop"})
	followed.expect(t, "bank", "shop")
	i.podsDrop("shop")
	followed.expect(t, "bank", "shop")
	if _, known := state.VNID("shop"); !known {
		t.Error("the VNID is forgotten while services need it")
	}
	i.podsWant("bank")
	i.servicesWant([]string{"shop"})
	followed.expect(t, "bank", "shop")
	i.servicesWant(nil)
	followed.expect(t, "bank")
	if _, known := state.VNID("shop"); known {
		t.Error("the VNID is remembered, and nobody follows it")
	}
	i.podsDrop("bank")
	followed.expect(t)
}

// complete is a state in multitenant mode, of which nothing is missing.
func complete(t *testing.T) *intent.State {
	t.Helper()
	state := intent.NewState("node1", true)
	_, err1 := state.SetClusterNetwork(&ipamv1.ClusterNetwork{
		Name: "default", Networks: []*ipamv1.ClusterNetworkEntry{{Cidr: "10.128.0.0/14"}}, ServiceNetworks: []string{"172.30.0.0/16"},
	})
	_, err2 := state.SetHostSubnet(&ipamv1.HostSubnet{Name: "node1", HostIps: []string{"192.0.2.11"}, Subnets: []string{"10.130.0.0/23"}})
	_, err3 := state.SetIsolation(&tenancyv1.Isolation{Mode: tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return state
}

func TestFlowsThatTheSwitchDidNotTakeAreSentAgain(t *testing.T) {
	state := complete(t)
	state.SetNetNamespace(&tenancyv1.NetNamespace{Name: "shop", Netid: 42})
	var sent [][]string
	answer := errors.New("the bundle was refused")
	f := &serviceFlows{state: state, unsent: map[string]bool{}, program: func(_ context.Context, c intent.Change) error {
		sent = append(sent, c.Owners)
		return answer
	}}
	web := serviceview.Name{Namespace: "shop", Service: "web"}
	opened := []svcsync.Opening{{
		Service: web, ClusterIPs: []netip.Addr{netip.MustParseAddr("172.30.0.1")}, Ports: []svcsync.OpenPort{{Protocol: proxy.TCP, Port: 80}},
		NodePorts: []svcsync.OpenPort{{Protocol: proxy.TCP, Port: 30080}},
	}}
	if err := f.Open(t.Context(), opened, nil); !errors.Is(err, answer) {
		t.Errorf("got %v", err)
	}
	answer = intent.ErrNotStarted
	if err := f.Open(t.Context(), opened, nil); !errors.Is(err, svcsync.ErrSwitchAway) {
		t.Errorf("a switch that is away: got %v", err)
	}
	answer = nil
	for range 2 {
		if err := f.Open(t.Context(), opened, nil); err != nil {
			t.Error(err)
		}
	}
	if want := [][]string{{"service shop/web"}, {"service shop/web"}, {"service shop/web"}}; !slices.EqualFunc(sent, want, slices.Equal) {
		t.Errorf("sent %q, want %q", sent, want)
	}
	if n := state.ServiceFlows("shop", "web"); n != 3 {
		t.Errorf("the service has %d flows, want its port, fragments, and its node port", n)
	}
	if err := f.Open(t.Context(), nil, []serviceview.Name{web}); err != nil || len(sent) != 4 || state.ServiceFlows("shop", "web") != 0 {
		t.Errorf("a service that goes: error %v, sent %q", err, sent)
	}
}

func TestWithoutTheIsolationModeNoServiceCountsAsOpen(t *testing.T) {
	f := &serviceFlows{state: intent.NewState("node1", true), unsent: map[string]bool{}}
	if err := f.Open(t.Context(), []svcsync.Opening{{Service: serviceview.Name{Namespace: "shop", Service: "web"}}}, nil); !errors.Is(err, svcsync.ErrSwitchAway) {
		t.Errorf("got %v", err)
	}
}

func TestAnOccupiedHealthPortIsItsServicesError(t *testing.T) {
	ns := netnstest.New(t, "node")
	ns.Do(t, func() {
		taken, err := net.Listen("tcp4", "0.0.0.0:32001")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		ports := healthport.New(hclog.NewNullLogger())
		defer ports.Close()
		web, api := serviceview.Name{Namespace: "shop", Service: "web"}, serviceview.Name{Namespace: "shop", Service: "api"}
		failed := healthPorts{ports}.Serve(map[uint16]svcsync.Health{32001: {Service: web}, 32002: {Service: api, LocalReady: 1}})
		if len(failed) != 1 || failed[web] == nil || !strings.Contains(failed[web].Error(), "32001") {
			t.Errorf("got %v", failed)
		}
	})
}

// finder knows namespaces, and tells the state of them when it is asked.
type finder struct {
	state *intent.State
	vnids map[string]uint32
}

func (f finder) Find(ctx context.Context, name string) (*tenancyv1.NetNamespace, bool, error) {
	vnid, exists := f.vnids[name]
	if !exists {
		return nil, false, nil
	}
	nn := &tenancyv1.NetNamespace{Name: name, Netid: vnid}
	f.state.SetNetNamespace(nn)
	return nn, true, nil
}

// At start flows are compared when those of services are known: all of them, unless
// their namespace does not exist.
func TestFlowsOfServicesAreKnownBeforeFlowsAreCompared(t *testing.T) {
	state := complete(t)
	begin := svcsync.New(svcsync.Config{Log: hclog.NewNullLogger()})
	followed := wishes{}
	s := &services{
		Syncer: begin, state: state, namespaces: finder{state, map[string]uint32{"shop": 42}},
		interest: newInterest(followed, state, func(intent.Change) {}),
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.resolve(ctx) // nobody knows services yet, and the agent stops: it does not wait
	followed.expect(t)

	flows := &serviceFlows{state: state, unsent: map[string]bool{}, program: func(context.Context, intent.Change) error { return intent.ErrNotStarted }}
	started := svcsync.New(svcsync.Config{Log: hclog.NewNullLogger(), Flows: flows, Audit: time.Hour, View: func() (proxy.Node, bool) { return proxy.Node{}, false }})
	started.Follow(
		shelf[*servicelbv1.Service]{"shop/web": service("shop", "172.30.0.1"), "gone/web": service("gone", "172.30.0.2")},
		shelf[*servicelbv1.EndpointSlice]{},
	)
	ctx, cancel = context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- started.Run(ctx) }()
	s.Syncer = started
	s.resolve(t.Context())
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	followed.expect(t, "gone", "shop")
	if shop, gone := state.ServiceFlows("shop", "web"), state.ServiceFlows("gone", "web"); shop == 0 || gone != 0 {
		t.Errorf("%d and %d flows", shop, gone)
	}
}

// shelf stands for a follower.
type shelf[T any] map[string]T

func (s shelf[T]) Get(name string) (T, bool)  { object, there := s[name]; return object, there }
func (s shelf[T]) Snapshot() map[string]T     { return maps.Clone(s) }
func (shelf[T]) Synced(context.Context) error { return nil }
func (shelf[T]) Cached() bool                 { return false }

func service(namespace, clusterIP string) *servicelbv1.Service {
	return &servicelbv1.Service{
		Namespace: namespace, Name: "web", ClusterIps: []string{clusterIP}, Revision: 1,
		Ports: []*servicelbv1.ServicePort{{Protocol: servicelbv1.Protocol_PROTOCOL_TCP, Port: 80}},
	}
}
