package svcsync

import (
	"strings"
	"testing"
	"time"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// TestAnotherZoneChangesTheServicesThatItConcerns moves a node from zone to zone: a service
// whose endpoints have hints for zones leads to those for its zone, and to all where there are
// none; of another service nothing is written.
func TestAnotherZoneChangesTheServicesThatItConcerns(t *testing.T) {
	r := newRig(t, "nftables")
	near := slice("near", "near-1", "10.129.0.2", "10.130.0.2")
	for i, zone := range []string{"west", "east"} {
		near.Endpoints[i].Hints = &servicelbv1.EndpointHints{ForZones: []string{zone}}
	}
	r.put(service("near", "172.30.0.1"), service("plain", "172.30.0.2"))
	r.putSlices(near, slice("plain", "plain-1", "10.129.0.3", "10.130.0.3"))
	r.start().settled()
	plain := entry("plain", "172.30.0.2", "10.129.0.3", "10.130.0.3")
	for _, step := range []struct {
		zone     string
		backends []string
	}{
		{"east", []string{"10.130.0.2"}}, {"north", []string{"10.129.0.2", "10.130.0.2"}}, {"", []string{"10.129.0.2", "10.130.0.2"}}, {"west", []string{"10.129.0.2"}},
	} {
		r.Zone(step.zone)
		r.await(step.backends)
		e := entry("near", "172.30.0.1", step.backends...)
		r.expectState(proxy.State{e.Key: e, plain.Key: plain})
	}
	if syncs, _, _ := r.engine().counts(); syncs != 1 {
		t.Errorf("everything was compared %d times", syncs)
	}
}

// await waits until the kernel leads to these of the endpoints with hints, and to no other.
func (r *rig) await(backends []string) {
	r.t.Helper()
	for ctx := soon(r.t); ; time.Sleep(time.Millisecond) {
		rules, as := r.ruleset(), true
		for _, b := range []string{"10.129.0.2", "10.130.0.2"} {
			wanted := false
			for _, w := range backends {
				wanted = wanted || w == b
			}
			as = as && strings.Contains(rules, b) == wanted
		}
		if as {
			return
		}
		if ctx.Err() != nil {
			r.t.Fatalf("the kernel does not lead to %v alone:\n%s", backends, rules)
		}
	}
}
