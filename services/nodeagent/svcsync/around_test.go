package svcsync

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/proctest"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

func idled(s *servicelbv1.Service) {
	s.Annotations = map[string]string{IdledAt: "2026-01-01T00:00:00Z"}
}

// An idle service is held before the engine loses its backend, and let go once the
// engine has one again.
func TestAnIdleServiceIsHeldAsLongAsNobodyAnswers(t *testing.T) {
	proctest.Need(t, "nft")
	r := newRig(t, "nftables")
	h := newHands(func() string {
		if strings.Contains(r.ns.Run(t, "nft", "list", "ruleset"), "10.130.0.1") {
			return "its backend"
		}
		return "no backend"
	})
	r.config = func(c *Config) { c.Idle = h }
	r.put(service("web", "172.30.0.1"), service("api", "172.30.0.2"))
	r.putSlices(slice("web", "web-a", "10.130.0.1"))
	r.start().settled()

	r.put(service("web", "172.30.0.1", idled)) // as long as there is a backend it is not idle
	r.settled()
	r.removeSlice("shop/web-a")
	r.settled()
	web := Frontend{Address: entry("web", "172.30.0.1").ClusterIPs[0], Protocol: proxy.TCP, Port: 80}
	if len(h.held) != 1 || !slices.Equal(h.held[nameOf("shop/web")], []Frontend{web}) {
		t.Errorf("held is %v", h.held)
	}
	held := entry("web", "172.30.0.1")
	held.Held = true
	r.expectState(stateOf(held, entry("api", "172.30.0.2")))

	r.stop()
	again := newHands(h.look)
	r.config = func(c *Config) { c.Idle = again }
	r.start().settled()
	if !maps.EqualFunc(again.held, h.held, slices.Equal[[]Frontend]) {
		t.Errorf("after a restart %v is held, want %v", again.held, h.held)
	}
	r.putSlices(slice("web", "web-a", "10.130.0.1"))
	r.settled()
	r.put(service("api", "172.30.0.2", idled))
	r.settled()
	r.put(service("api", "172.30.0.2")) // not idle for another reason: it is refused from now on
	r.settled()
	got := append(h.events, again.events...)
	want := []string{"hold web with its backend", "release web with its backend", "hold api with its backend", "release api with its backend"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	r.expectState(stateOf(entry("web", "172.30.0.1", "10.130.0.1"), entry("api", "172.30.0.2")))
}

func TestLoadBalancersLearnOfLocalEndpoints(t *testing.T) {
	proctest.Need(t, "nft")
	r := newRig(t, "nftables")
	d := &doors{}
	r.config = func(c *Config) { c.Health = d }
	balanced := func(port uint32) func(*servicelbv1.Service) {
		return func(s *servicelbv1.Service) {
			s.Type, s.LoadBalancerIps = servicelbv1.ServiceType_SERVICE_TYPE_LOAD_BALANCER, []string{"198.51.100.1"}
			s.ExternalTrafficPolicy, s.HealthCheckNodePort = servicelbv1.TrafficPolicy_TRAFFIC_POLICY_LOCAL, port
		}
	}
	expect := func(port uint16, ready int) {
		t.Helper()
		r.settled()
		want := map[uint16]Health{}
		if port != 0 {
			want[port] = Health{Service: nameOf("shop/web"), LocalReady: ready}
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if !maps.Equal(d.ports, want) {
			t.Errorf("served is %v, want %v", d.ports, want)
		}
	}
	r.put(service("web", "172.30.0.1", balanced(32001)))
	r.start()
	expect(32001, 0)
	local := slice("web", "web-a", "10.130.0.1", "10.130.0.2")
	local.Endpoints[0].NodeName = here.Name
	r.putSlices(local)
	expect(32001, 1)
	served := d.served
	r.putSlices(slice("web", "web-b", "10.131.0.1")) // elsewhere: nothing to tell
	expect(32001, 1)
	if d.served != served {
		t.Errorf("health was told %d times for nothing", d.served-served)
	}
	r.put(service("web", "172.30.0.1", balanced(32002)))
	expect(32002, 1)

	// A port that cannot be opened is the service's own error until it can.
	d.refuseWith(errBroken)
	r.put(service("web", "172.30.0.1", balanced(32003)))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := r.WaitProgrammed(ctx, KindService, "shop/web", r.revision); err == nil || !strings.Contains(err.Error(), errBroken.Error()) {
		t.Errorf("got error %v", err)
	}
	d.refuseWith(nil)
	expect(32003, 1)
	r.engine().breakWith(errBroken)
	r.put(service("api", "172.30.0.2"))
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := r.WaitProgrammed(ctx, KindService, "shop/api", r.revision); err == nil || !strings.Contains(err.Error(), errBroken.Error()) {
		t.Errorf("got error %v", err)
	}
	d.mu.Lock()
	if d.healthy {
		t.Error("load balancers are told that all is well, and the engine takes nothing")
	}
	d.mu.Unlock()
	r.engine().breakWith(nil)
	r.removeService("shop/web")
	expect(0, 0)
}
