package svcsync

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/proctest"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

func keyOf(name string) proxy.Key {
	return proxy.Key{Namespace: "shop", Name: name, PortName: "http", Protocol: proxy.TCP}
}

func TestWhoHasAFrontendThatSeveralWant(t *testing.T) {
	f := Frontend{netip.MustParseAddr("198.51.100.1"), proxy.TCP, 80}
	type wants struct {
		name     string
		revision uint64
		given    bool
		gone     bool
	}
	for _, c := range []struct {
		name  string
		steps []wants
		want  string
	}{
		{"one alone", []wants{{name: "b", revision: 5}}, "b"},
		{"whoever has it keeps it, though another comes first by name", []wants{{name: "b", revision: 5}, {name: "a", revision: 6}}, "b"},
		{"whoever has it keeps it, though it changes", []wants{{name: "b", revision: 5}, {name: "a", revision: 6}, {name: "b", revision: 7}}, "b"},
		{"when it goes, the next has it", []wants{{name: "b", revision: 5}, {name: "a", revision: 6}, {name: "b", gone: true}}, "a"},
		{"of those who wait, the oldest is next", []wants{{name: "b", revision: 5}, {name: "a", revision: 7}, {name: "c", revision: 6}, {name: "b", gone: true}}, "c"},
		{"whoever was given it has it", []wants{{name: "a", revision: 5}, {name: "b", revision: 9, given: true}}, "b"},
		{"and keeps it", []wants{{name: "b", revision: 9, given: true}, {name: "a", revision: 5}}, "b"},
		{"nobody", []wants{{name: "b", revision: 5}, {name: "b", gone: true}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := newClaims()
			for _, s := range c.steps {
				w := map[Frontend]bool{f: s.given}
				if s.gone {
					w = nil
				}
				all.set(keyOf(s.name), s.revision, w)
			}
			for _, name := range []string{"a", "b", "c"} {
				if got := all.has(keyOf(name), f); got != (name == c.want) {
					t.Errorf("%s has it: %v", name, got)
				}
			}
		})
	}
}

// Every frontend that somebody wants has one holder who wants it, who was given it if
// anybody was; and whoever gets or loses something is named.
func TestEveryFrontendHasOneHolder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, wants := newClaims(), map[proxy.Key]map[Frontend]bool{}
		holders := func() map[Frontend]proxy.Key {
			has := map[Frontend]proxy.Key{}
			for f, c := range all.contests {
				has[f] = c.holder
			}
			return has
		}
		for revision := range rapid.IntRange(1, 30).Draw(t, "steps") {
			key := keyOf(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "service"))
			now := map[Frontend]bool{}
			for _, port := range rapid.SliceOfNDistinct(rapid.Uint16Range(1, 4), 0, 3, rapid.ID).Draw(t, "ports") {
				now[Frontend{Protocol: proxy.TCP, Port: port}] = rapid.IntRange(0, 3).Draw(t, "given") == 0
			}
			before := holders()
			others := all.set(key, uint64(revision), now)
			wants[key] = now
			for f, holder := range holders() {
				given, does := wants[holder][f]
				if !does {
					t.Fatalf("%v has %v and does not want it", holder, f)
				}
				for other, w := range wants {
					if w[f] && !given {
						t.Fatalf("%v was given %v, and %v has it", other, f, holder)
					}
				}
				for _, concerned := range []proxy.Key{before[f], holder} {
					if before[f] != holder && concerned != key && concerned != (proxy.Key{}) && !slices.Contains(others, concerned) {
						t.Fatalf("%v went from %v to %v, named are %v", f, before[f], holder, others)
					}
				}
			}
			for key, w := range wants {
				for f := range w {
					if all.contests[f] == nil {
						t.Fatalf("nobody has %v, which %v wants", f, key)
					}
				}
			}
		}
	})
}

// A service that wants what belongs to another has the rest of what it wants, and an
// error; the other notices nothing. When the other goes, it has all.
func TestAConflictIsTheLatecomersErrorAlone(t *testing.T) {
	proctest.Need(t, "nft")
	external := func(s *servicelbv1.Service) { s.ExternalIps = []string{"198.51.100.1"} }
	outside := func(e proxy.Service) proxy.Service {
		e.ExternalIPs, e.ExternalBackends = []netip.Addr{netip.MustParseAddr("198.51.100.1")}, e.ClusterBackends
		return e
	}
	r := newRig(t, "nftables")
	r.refused = map[string]bool{"shop/api": true}
	r.put(service("web", "172.30.0.1", external))
	r.putSlices(slice("web", "web-a", "10.130.0.1"), slice("api", "api-a", "10.130.0.2"))
	r.start().settled()
	r.put(service("api", "172.30.0.2", external))
	r.settled()
	has := func() {
		t.Helper()
		status := r.status("shop/api")
		if want := "198.51.100.1:80/TCP is left out: it belongs to shop/web:http"; status.Err == nil || status.Err.Error() != want || status.Programmed != 0 {
			t.Errorf("got status %+v, want error %q", status, want)
		}
		if status := r.status("shop/web"); status.Err != nil {
			t.Errorf("the one that was there first: %v", status.Err)
		}
		r.expectState(stateOf(outside(entry("web", "172.30.0.1", "10.130.0.1")), entry("api", "172.30.0.2", "10.130.0.2")))
	}
	has()
	r.stop()
	r.start().settled() // who was there first is who was changed first
	has()
	r.removeService("shop/web")
	r.refused = nil
	r.settled()
	r.expectState(stateOf(outside(entry("api", "172.30.0.2", "10.130.0.2"))))
}

// What cannot be read keeps the last state that could, and disturbs nobody.
func TestAServiceThatCannotBeReadStaysAsItWas(t *testing.T) {
	proctest.Need(t, "nft")
	r := newRig(t, "nftables")
	r.refused = map[string]bool{"shop/web": true, "shop/new": true, "shop/api": true}
	r.put(service("web", "172.30.0.1"))
	r.start().settled()
	first := r.revision
	r.put(service("web", "172.30.0.999"), service("new", "nonsense"), service("api", "172.30.0.2"))
	r.putSlices(slice("api", "api-a", "127.0.0.1", "10.130.0.1"))
	r.settled()
	r.expectState(stateOf(entry("web", "172.30.0.1"), entry("api", "172.30.0.2", "10.130.0.1")))
	if s := r.status("shop/web"); s.Programmed != first || s.Err == nil || !strings.Contains(s.Err.Error(), "172.30.0.999") {
		t.Errorf("got %+v", s)
	}
	if s := r.status("shop/api"); s.Err == nil || !strings.Contains(s.Err.Error(), "endpoint 127.0.0.1:8080 is left out") {
		t.Errorf("got %+v", s)
	}
	r.refused = nil
	r.put(service("web", "172.30.0.3"))
	r.removeService("shop/new")
	r.put(service("api", "172.30.0.2"))
	r.putSlices(slice("api", "api-a", "10.130.0.1"))
	r.settled()
	r.expectState(stateOf(entry("web", "172.30.0.3"), entry("api", "172.30.0.2", "10.130.0.1")))
	for _, s := range r.Statuses() {
		if s.Err != nil {
			t.Error(fmt.Sprint(s))
		}
	}
}
