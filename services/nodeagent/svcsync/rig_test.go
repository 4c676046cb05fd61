package svcsync

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/serviceview"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/iptables"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/nftables"
)

// here is the node that all tests are on.
var here = serviceview.Node{Name: "node1", Zone: "west"}

// nodeView is what the engine is told of it.
var nodeView = proxy.Node{ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")}}

// rig is a node with a syncer on a real kernel.
type rig struct {
	t        testing.TB
	ns       *netnstest.Namespace
	kind     string
	services *shelf[*servicelbv1.Service]
	slices   *shelf[*servicelbv1.EndpointSlice]
	board    *switchboard
	revision uint64
	refused  map[string]bool // services that are to end with an error

	*Syncer
	config func(*Config) // may change the configuration of the next start
	made   []*inside     // engines, the last one in use
	stop   func()
}

func newRig(t testing.TB, kind string) *rig {
	t.Helper()
	return &rig{
		t: t, ns: netnstest.New(t, "node"), kind: kind, board: &switchboard{open: map[serviceview.Name]Opening{}},
		services: newShelf[*servicelbv1.Service](), slices: newShelf[*servicelbv1.EndpointSlice](),
	}
}

// realEngine makes an engine: "nftables", "iptables-nft" or "iptables-legacy".
func realEngine(kind string, node proxy.Node) (proxy.Engine, error) {
	if kind == "nftables" {
		return nftables.New(node)
	}
	return iptables.New(node, kind)
}

func (r *rig) maker(kind string) Maker {
	return func(node proxy.Node) (proxy.Engine, error) {
		made, err := realEngine(kind, node)
		if err != nil {
			return nil, err
		}
		e := &inside{t: r.t, ns: r.ns, engine: made}
		r.made = append(r.made, e)
		return e, nil
	}
}

// engine is the one in use. There is none before the first pass.
func (r *rig) engine() *inside { return r.made[len(r.made)-1] }

// start makes a syncer and runs it until stop, or the end of the test.
func (r *rig) start() *rig {
	r.t.Helper()
	cfg := Config{
		Node: here, Engines: Engines{Name: r.kind, Chosen: r.maker(r.kind)}, Flows: r.board, Audit: time.Hour,
		View: func() (proxy.Node, bool) { return nodeView, true }, Log: hclog.NewNullLogger(),
	}
	if r.config != nil {
		r.config(&cfg)
	}
	r.board.begin()
	r.Syncer = New(cfg)
	r.Follow(r.services, r.slices)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	run := r.Syncer
	go func() { ended <- run.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
	r.t.Cleanup(r.stop)
	return r
}

func (r *rig) put(services ...*servicelbv1.Service) {
	for _, s := range services {
		r.revision++
		s.Revision = r.revision
		path := s.GetNamespace() + "/" + s.GetName()
		r.services.put(path, s)
		if r.Syncer != nil {
			r.ServiceChanged(path, s.GetRevision())
		}
	}
}

func (r *rig) putSlices(slices ...*servicelbv1.EndpointSlice) {
	for _, s := range slices {
		r.revision++
		s.Revision = r.revision
		path := s.GetNamespace() + "/" + s.GetName()
		r.slices.put(path, s)
		if r.Syncer != nil {
			r.SliceChanged(path, s.GetRevision())
		}
	}
}

func (r *rig) removeService(path string) {
	r.revision++
	r.services.remove(path)
	r.ServiceChanged(path, r.revision)
}

func (r *rig) removeSlice(path string) {
	r.revision++
	r.slices.remove(path)
	r.SliceChanged(path, r.revision)
}

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// settled waits until every object that was put is in force, and every other gone.
func (r *rig) settled() {
	r.t.Helper()
	ctx := soon(r.t)
	for {
		r.statuses.mu.Lock()
		changed := r.statuses.changed
		r.statuses.mu.Unlock()
		behind := r.behind()
		if len(behind) == 0 {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			r.t.Fatalf("%d objects are not in force, %v among them", len(behind), behind[:min(5, len(behind))])
		}
	}
}

// behind are the objects that are not in force.
func (r *rig) behind() (behind []string) {
	want := map[object]uint64{}
	for path, s := range r.services.Snapshot() {
		want[object{KindService, path}] = s.GetRevision()
	}
	for path, s := range r.slices.Snapshot() {
		want[object{KindEndpointSlice, path}] = s.GetRevision()
	}
	for _, s := range r.Statuses() {
		o := object{s.Kind, s.Name}
		if refused := s.Err != nil && r.refused[s.Name]; s.Programmed != want[o] && !refused || s.Wanted != want[o] {
			behind = append(behind, fmt.Sprintf("%+v, want %d", s, want[o]))
		}
		delete(want, o)
	}
	for o, revision := range want {
		behind = append(behind, fmt.Sprintf("%v, want %d", o, revision))
	}
	slices.Sort(behind)
	return behind
}

// status answers the status of one service.
func (r *rig) status(path string) Status {
	r.t.Helper()
	for _, s := range r.Statuses() {
		if s.Kind == KindService && s.Name == path {
			return s
		}
	}
	r.t.Fatalf("service %s has no status", path)
	return Status{}
}

// ruleset is all that the kernel of the node has, in every tool's words.
func (r *rig) ruleset() string {
	r.t.Helper()
	return rulesetOf(r.t, r.ns)
}

// expectState fails unless the kernel has what a fresh engine makes of a state.
func (r *rig) expectState(state proxy.State) {
	r.t.Helper()
	fresh := netnstest.New(r.t, "fresh")
	e, err := realEngine(r.kind, nodeView)
	if err != nil {
		r.t.Fatal(err)
	}
	fresh.Do(r.t, func() { _, err = e.Sync(r.t.Context(), state) })
	if err != nil {
		r.t.Fatal(err)
	}
	if got, want := r.ruleset(), rulesetOf(r.t, fresh); got != want {
		r.t.Fatalf("the kernel has\n%s\nwant\n%s", got, want)
	}
}

// service makes a service with a cluster IP and one port.
func service(name, clusterIP string, more ...func(*servicelbv1.Service)) *servicelbv1.Service {
	s := &servicelbv1.Service{
		Namespace: "shop", Name: name, ClusterIps: []string{clusterIP}, Type: servicelbv1.ServiceType_SERVICE_TYPE_CLUSTER_IP,
		Ports: []*servicelbv1.ServicePort{{Name: "http", Protocol: servicelbv1.Protocol_PROTOCOL_TCP, Port: 80}},
	}
	for _, change := range more {
		change(s)
	}
	return s
}

// slice makes a slice of a service's port, with endpoints on other nodes.
func slice(service, name string, addresses ...string) *servicelbv1.EndpointSlice {
	s := &servicelbv1.EndpointSlice{
		Namespace: "shop", Name: name, ServiceName: service,
		Ports: []*servicelbv1.EndpointPort{{Name: "http", Protocol: servicelbv1.Protocol_PROTOCOL_TCP, Port: 8080}},
	}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, &servicelbv1.Endpoint{Addresses: []string{a}, NodeName: "node2"})
	}
	return s
}

// entry is what the engine should have of service and slice.
func entry(name, clusterIP string, backends ...string) proxy.Service {
	e := proxy.Service{
		Key:  proxy.Key{Namespace: "shop", Name: name, PortName: "http", Protocol: proxy.TCP},
		Port: 80, ClusterIPs: []netip.Addr{netip.MustParseAddr(clusterIP)},
	}
	for _, b := range backends {
		e.ClusterBackends = append(e.ClusterBackends, proxy.Backend{Addr: netip.MustParseAddr(b), Port: 8080})
	}
	return e
}

// stateOf files entries.
func stateOf(entries ...proxy.Service) proxy.State {
	state := proxy.State{}
	for _, e := range entries {
		state[e.Key] = e
	}
	return state
}

var errBroken = errors.New("out of order")

type serviceName = serviceview.Name

func equalStates(a, b proxy.State) bool { return reflect.DeepEqual(a, b) }
