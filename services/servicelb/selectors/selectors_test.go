package selectors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

func web(selector map[string]string, ports ...string) *servicelbv1.Service {
	s := &servicelbv1.Service{Namespace: "shop", Name: "web", Selector: selector}
	for i, target := range ports {
		s.Ports = append(s.Ports, &servicelbv1.ServicePort{Name: fmt.Sprintf("p%d", i), Port: uint32(80 + i), TargetPort: target})
	}
	return spec.Defaults(s)
}

func pod(name string, labels map[string]string, ips ...string) *tenancyv1.Pod {
	return &tenancyv1.Pod{Namespace: "shop", Name: name, Node: "n1", Ips: ips, Labels: labels}
}

func TestSlicesAreValidAndOfTheMatchingPods(t *testing.T) {
	app := map[string]string{"app": "web", "tier": "front"}
	pods := []*tenancyv1.Pod{
		pod("c", map[string]string{"app": "web", "tier": "front", "more": "yes"}, "10.128.0.3"),
		pod("a", app, "10.128.0.1", "fd00::1"),
		pod("other", map[string]string{"app": "web"}, "10.128.0.4"),
		pod("six", app, "fd00::2"),
	}
	got := compile(web(app, "8080"), pods, nil).slices
	if len(got) != 1 || len(got[0].GetEndpoints()) != 2 || len(got[0].GetPorts()) != 1 || got[0].GetPorts()[0].GetPort() != 8080 {
		t.Fatalf("got %v", got)
	}
	if e := got[0].GetEndpoints(); e[0].GetTargetRef().GetName() != "a" || e[1].GetTargetRef().GetName() != "c" || !slices.Equal(e[0].GetAddresses(), []string{"10.128.0.1"}) {
		t.Errorf("endpoints %v", e)
	}
	for name, s := range map[string]*servicelbv1.Service{
		"no selector": web(nil, "8080"), "ExternalName": {Selector: app, Type: servicelbv1.ServiceType_SERVICE_TYPE_EXTERNAL_NAME},
	} {
		if got := compile(s, pods, nil).slices; len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestManyPodsAreManySlices(t *testing.T) {
	app := map[string]string{"app": "web"}
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 350).Draw(rt, "pods")
		var pods []*tenancyv1.Pod
		for i := range n {
			pods = append(pods, pod(fmt.Sprintf("p%03d", i), app, fmt.Sprintf("10.128.%d.%d", i/250, i%250)))
		}
		got, names, total := compile(web(app, "8080"), rapid.Permutation(pods).Draw(rt, "order"), nil).slices, map[string]bool{}, 0
		for _, s := range got {
			var v rpcerr.Violations
			spec.CheckSlice(s, &v)
			if err := v.Err("test"); err != nil {
				rt.Fatal(err)
			}
			names[s.GetName()] = true
			total += len(s.GetEndpoints())
		}
		if total != n || len(names) != len(got) || len(got) != (n+perSlice-1)/perSlice {
			rt.Fatalf("%d endpoints in %d slices of %d names, want %d", total, len(got), len(names), n)
		}
		again := compile(web(app, "8080"), pods, nil).slices
		for i := range got {
			if !proto.Equal(got[i], again[i]) {
				rt.Fatal("the order of pods matters")
			}
		}
	})
}

func TestAPodConcernsTheServicesOfItsNamespaceThatSelectIt(t *testing.T) {
	b := newBoard()
	for name, app := range map[string]string{"web": "web", "web-too": "web", "db": "db"} {
		b.setService(catalog.Name{Namespace: "shop", Name: name}, web(map[string]string{"app": app}))
	}
	b.setService(catalog.Name{Namespace: "other", Name: "web"}, web(map[string]string{"app": "web"}))
	set := func(p *tenancyv1.Pod) string {
		var names []string
		for _, n := range b.setPod("shop", "a", 0, func() *tenancyv1.Pod { return p }) {
			names = append(names, n.String())
		}
		slices.Sort(names)
		return fmt.Sprint(names)
	}
	for _, step := range []struct{ what, got, want string }{
		{"a pod comes", set(pod("a", map[string]string{"app": "web"})), "[shop/web shop/web-too]"},
		{"it is relabelled", set(pod("a", map[string]string{"app": "db"})), "[shop/db shop/web shop/web-too]"},
		{"it has no labels", set(pod("a", nil)), "[shop/db]"},
		{"it goes", set(nil), "[]"},
	} {
		if step.got != step.want {
			t.Errorf("%s: concerns %s, want %s", step.what, step.got, step.want)
		}
	}
	if b.setService(catalog.Name{Namespace: "shop", Name: "web"}, nil); len(b.services()) != 3 {
		t.Errorf("services %v", b.services())
	}
}

// memory is a store that may fail.
type memory struct {
	services map[catalog.Name]*servicelbv1.Service

	mu       sync.Mutex
	slices   map[catalog.Name]int
	away     bool
	changing int // so often somebody else changes the service just then
	written  int
}

func (m *memory) Get(name catalog.Name) (*servicelbv1.Service, error) {
	if s := m.services[name]; s != nil {
		return s, nil
	}
	return nil, &catalog.NotFoundError{Name: name}
}

func (m *memory) Manage(_ context.Context, owner catalog.Name, _ uint64, want func([]*servicelbv1.EndpointSlice) []*servicelbv1.EndpointSlice, _ uint64) (bool, []catalog.Name, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return false, nil, errors.New("the store is away")
	}
	if m.changing > 0 {
		m.changing--
		return false, nil, catalog.ErrServiceChanged
	}
	m.written++
	if m.slices[owner] = len(want(nil)); m.slices[owner] == 0 {
		delete(m.slices, owner)
	}
	return true, nil, nil
}

func (m *memory) ServicesWithSlices() []catalog.Name {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []catalog.Name
	for name := range m.slices {
		names = append(names, name)
	}
	return names
}

// become changes what is stored, or whether it can be reached.
func (m *memory) become(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func (m *memory) Reach(context.Context, uint64) error { return nil }

func TestWhatDidNotWorkIsTriedAgainAndWhatWasMissedIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		name, left := catalog.Name{Namespace: "shop", Name: "web"}, catalog.Name{Namespace: "shop", Name: "left"}
		app := map[string]string{"app": "web"}
		m := &memory{services: map[catalog.Name]*servicelbv1.Service{name: web(app, "8080")}, slices: map[catalog.Name]int{left: 1}, away: true}
		l := newLoop(m, NewDirty(), hclog.NewNullLogger())
		l.board.setPod("shop", "a", 0, func() *tenancyv1.Pod { return pod("a", app, "10.128.0.1") })
		l.dirty.Observe([]bucket.Change{{Entry: bucket.Entry{Key: "service.shop.web", Revision: 7}}, {Entry: bucket.Entry{Key: "nodeport.30000"}}}, true)
		if l.dirty.revision != 7 || len(l.dirty.names) != 1 {
			t.Errorf("dirty: %v at %d", l.dirty.names, l.dirty.revision)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.keep(ctx) }()
		synctest.Wait()
		m.become(func() {
			if m.written != 0 || len(m.slices) != 1 {
				t.Errorf("written %d times although the store is away", m.written)
			}
			m.away = false
		})
		time.Sleep(retryAfter + time.Millisecond)
		synctest.Wait()
		m.become(func() {
			if m.slices[name] != 1 || len(m.slices) != 1 {
				t.Errorf("slices %v: those of a service that is gone must go", m.slices)
			}
			m.slices[left], m.slices[name] = 1, 0 // another replica lagged
		})
		time.Sleep(lookEvery)
		synctest.Wait()
		m.become(func() {
			if m.slices[name] != 1 || len(m.slices) != 1 {
				t.Errorf("after a while slices %v", m.slices)
			}
			m.slices[name], m.changing = 0, 1
		})
		l.dirty.add(false, name)
		time.Sleep(retryAfter + time.Millisecond)
		synctest.Wait()
		m.become(func() {
			if m.slices[name] != 1 {
				t.Errorf("a look that a change made void was not repeated: %v", m.slices)
			}
		})
		cancel()
		<-done
	})
}
