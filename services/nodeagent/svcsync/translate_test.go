package svcsync

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/serviceview"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

func seen(text string) serviceview.Backend {
	return serviceview.Backend{Address: netip.MustParseAddrPort(text), Local: strings.HasPrefix(text, "10.130.")}
}

func told(text string) proxy.Backend {
	at := netip.MustParseAddrPort(text)
	return proxy.Backend{Addr: at.Addr(), Port: at.Port(), Local: strings.HasPrefix(text, "10.130.")}
}

func TestWhatAViewIsForTheEngine(t *testing.T) {
	one := netip.MustParseAddr
	local, remote := "10.130.0.1:8080", "10.131.0.1:8080"
	both := []serviceview.Backend{seen(local), seen(remote)}
	bothTold := []proxy.Backend{told(local), told(remote)}
	port := serviceview.Port{Name: "http", Protocol: servicelbv1.Protocol_PROTOCOL_TCP, Port: 80, Any: true}
	key := proxy.Key{Namespace: "shop", Name: "web", PortName: "http", Protocol: proxy.TCP}
	view := func(change func(v *serviceview.View, p *serviceview.Port)) serviceview.View {
		v, p := serviceview.View{Namespace: "shop", Name: "web", ClusterIPs: []netip.Addr{one("172.30.0.1")}}, port
		change(&v, &p)
		v.Ports = []serviceview.Port{p}
		return v
	}
	for _, c := range []struct {
		name     string
		view     serviceview.View
		want     []proxy.Service
		problems int
	}{
		{
			"a headless service is nothing",
			serviceview.View{Namespace: "shop", Name: "web"}, nil, 0,
		},
		{
			"a cluster IP alone",
			view(func(v *serviceview.View, p *serviceview.Port) { p.Internal, v.Affinity = both, time.Hour }),
			[]proxy.Service{{Key: key, Port: 80, ClusterIPs: []netip.Addr{one("172.30.0.1")}, Elsewhere: true, ClusterBackends: bothTold, Affinity: time.Hour}}, 0,
		},
		{
			"outside addresses with a health-check port",
			view(func(v *serviceview.View, p *serviceview.Port) {
				p.Internal, p.Anywhere, p.External, p.NodePort = both, both, both[:1], 30080
				v.ExternalLocal, v.HealthCheckNodePort = true, 32000
				v.ExternalIPs, v.LoadBalancerIPs = []netip.Addr{one("198.51.100.1")}, []netip.Addr{one("198.51.100.2")}
				v.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			}),
			[]proxy.Service{{
				Key: key, Port: 80, ClusterIPs: []netip.Addr{one("172.30.0.1")}, Elsewhere: true, ClusterBackends: bothTold, ExternalBackends: bothTold[:1],
				NodePort: 30080, ExternalLocal: true, HealthCheckNodePort: 32000, ExternalIPs: []netip.Addr{one("198.51.100.1")},
				LoadBalancerIPs: []netip.Addr{one("198.51.100.2")}, SourceRanges: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
			}}, 0,
		},
		{
			"both policies Local: pods reach outside addresses through any backend",
			view(func(v *serviceview.View, p *serviceview.Port) {
				p.Internal, p.Anywhere, p.External, p.NodePort = both[:1], both, both[:1], 30080
				v.InternalLocal, v.ExternalLocal = true, true
			}),
			[]proxy.Service{
				{Key: key, Port: 80, ClusterIPs: []netip.Addr{one("172.30.0.1")}, Elsewhere: true, InternalLocal: true, ClusterBackends: bothTold[:1]},
				{
					Key:  proxy.Key{Namespace: "shop", Name: "web", PortName: "http.outside", Protocol: proxy.TCP},
					Port: 80, NodePort: 30080, Elsewhere: true, ExternalLocal: true, ClusterBackends: bothTold, ExternalBackends: bothTold[:1],
				},
			}, 0,
		},
		{
			"endpoints that nobody can reach are left out",
			view(func(_ *serviceview.View, p *serviceview.Port) {
				p.Internal = []serviceview.Backend{seen("127.0.0.1:8080"), seen(local), seen("224.0.0.1:8080"), seen("0.0.0.0:8080")}
			}),
			[]proxy.Service{{Key: key, Port: 80, ClusterIPs: []netip.Addr{one("172.30.0.1")}, Elsewhere: true, ClusterBackends: bothTold[:1]}}, 3,
		},
		{
			"a port of an unknown protocol is left out",
			view(func(_ *serviceview.View, p *serviceview.Port) { p.Protocol = 7 }), nil, 1,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := translate(c.view, false, nil)
			if !slices.EqualFunc(got.entries, c.want, func(a, b proxy.Service) bool { return reflect.DeepEqual(a, b) }) {
				t.Errorf("got\n%+v\nwant\n%+v", got.entries, c.want)
			}
			if len(got.problems) != c.problems {
				t.Errorf("got problems %q, want %d", got.problems, c.problems)
			}
		})
	}
}

func TestAServiceIsIdleWhenNoPortHasABackendAnywhere(t *testing.T) {
	ports := func(any ...bool) serviceview.View {
		v := serviceview.View{Namespace: "shop", Name: "web", ClusterIPs: []netip.Addr{netip.MustParseAddr("172.30.0.1")}}
		for i, has := range any {
			v.Ports = append(v.Ports, serviceview.Port{Name: fmt.Sprintf("p%d", i), Protocol: servicelbv1.Protocol_PROTOCOL_TCP, Port: uint16(80 + i), Any: has})
		}
		return v
	}
	for _, c := range []struct {
		name  string
		view  serviceview.View
		idled bool
		want  bool
	}{
		{"idled, without backends", ports(false, false), true, true},
		{"idled, a port has a backend", ports(false, true), true, false},
		{"not idled", ports(false), false, false},
		{"idled and headless", ports(), true, false},
	} {
		w := translate(c.view, c.idled, nil)
		if w.idle != c.want {
			t.Errorf("%s: idle is %v", c.name, w.idle)
		}
		for _, e := range w.entries {
			if e.Held != c.want {
				t.Errorf("%s: %v is held: %v", c.name, e.Key, e.Held)
			}
		}
	}
}

func TestAPortHasNoMoreBackendsThanTheEngineCanNumber(t *testing.T) {
	v := serviceview.View{Namespace: "shop", Name: "web", ClusterIPs: []netip.Addr{netip.MustParseAddr("172.30.0.1")}}
	p := serviceview.Port{Protocol: servicelbv1.Protocol_PROTOCOL_TCP, Port: 80, Any: true}
	for i := range maxBackends + 2 {
		p.Internal = append(p.Internal, serviceview.Backend{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 130, byte(i >> 8), byte(i)}), 80)})
	}
	v.Ports = []serviceview.Port{p}
	w := translate(v, false, nil)
	if len(w.entries) != 1 || len(w.entries[0].ClusterBackends) != maxBackends || len(w.problems) != 1 || !strings.HasPrefix(w.problems[0], "2 endpoints are left out") {
		t.Errorf("got %d entries, problems %q", len(w.entries), w.problems)
	}
}

// Whatever a view is, what comes out passes the engines' own check, entry by entry,
// and each outside address of a port is in one entry.
func TestWhatIsTranslatedIsFitForAnEngine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLedger(here, nil, false)
		name := l.setService(drawService(t, 0))
		l.book.SetSlice(drawSlice(t, "s0", "s0-0"))
		view, _, err := l.book.View(name, here)
		if err != nil {
			t.Fatal(err)
		}
		w := translate(view, rapid.Bool().Draw(t, "idled"), nil)
		if len(w.problems) > 0 {
			t.Fatalf("problems %q", w.problems)
		}
		if err := stateOf(w.entries...).Check(); err != nil {
			t.Fatal(err)
		}
		frontends := 0
		for _, e := range w.entries {
			frontends += len(frontendsOf(e))
		}
		want := 0
		for _, p := range view.Ports {
			want += len(view.ClusterIPs) + len(view.ExternalIPs) + len(view.LoadBalancerIPs)
			if p.NodePort != 0 {
				want++
			}
		}
		if frontends != want {
			t.Fatalf("%d frontends, want %d", frontends, want)
		}
	})
}
