package idle

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/serviceview"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// clock is a time that the test moves.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func named(name string) serviceview.Name { return serviceview.Name{Namespace: "shop", Service: name} }

// a syn is the beginning of a connection from a client's port to a service's.
func syn(clientPort uint16, to string, start uint32) packet {
	return packet{flow{proxy.TCP, netip.AddrPortFrom(addr(clientAddress), clientPort), netip.MustParseAddrPort(to)}, start}
}

func datagram(to string) packet {
	return packet{flow: flow{proxy.UDP, netip.MustParseAddrPort("10.128.0.20:4000"), netip.MustParseAddrPort(to)}}
}

// said writes a decision: verdicts as "3:drop", "need" when pods are called for.
func said(d decision) string {
	var text string
	for _, v := range d.verdicts {
		word := map[verdict]string{drop: "drop", again: "again"}[v.verdict]
		text += fmt.Sprintf("%d:%s ", v.id, word)
	}
	if d.need {
		text += "need " + d.service.Service
	}
	if d.first {
		text += " first"
	}
	return text
}

func TestWhatBecomesOfAPacket(t *testing.T) {
	c := &clock{time.Unix(1_000_000, 0)}
	r := newRoom(c.now)
	services := Services{
		named("web"): {{addr(clusterIP), proxy.TCP, 80}, {addr(clusterIP), proxy.UDP, 80}, {Protocol: proxy.TCP, Port: nodePort}},
		named("db"):  {{addr("172.30.0.11"), proxy.TCP, 80}},
	}
	r.admit(services)
	for i, step := range []struct {
		what  string
		after time.Duration
		take  packet
		want  string
	}{
		{"the first packet waits, and calls for pods", 0, syn(4000, "172.30.0.10:80", 7), "need web first"},
		{"another connection waits", 0, syn(4001, "172.30.0.10:80", 8), ""},
		{"a repetition does not wait too", time.Second, syn(4000, "172.30.0.10:80", 7), "2:drop "},
		{"a new attempt from the same port replaces the old one", time.Second, syn(4000, "172.30.0.10:80", 9), "0:drop "},
		{"one to the node port waits", 0, syn(4000, "192.0.2.1:30080", 7), ""},
		{"each datagram waits", 0, datagram("172.30.0.10:80"), ""},
		{"also the next", 0, datagram("172.30.0.10:80"), ""},
		{"another service calls for its own pods", 0, syn(4000, "172.30.0.11:80", 7), "need db first"},
		{"no service has this port", 0, syn(4000, "172.30.0.11:81", 7), "8:drop "},
		{"no service has it for this protocol", 0, datagram("172.30.0.11:80"), "9:drop "},
		{"pods are called for again later", 28 * time.Second, syn(4001, "172.30.0.10:80", 8), "10:drop need web"},
		{"once", 0, syn(4002, "172.30.0.10:80", 8), ""},
	} {
		c.at = c.at.Add(step.after)
		if got := said(r.take(uint32(i), step.take)); got != step.want {
			t.Errorf("%d: %s: got %q, want %q", i, step.what, got, step.want)
		}
	}
	delete(services, named("web"))
	if got, want := r.keep(services), []uint32{1, 3, 4, 5, 6, 11}; !slices.Equal(got, want) {
		t.Errorf("let go: %v, want %v", got, want)
	}
	if got := said(r.take(20, syn(4009, "172.30.0.10:80", 1))); got != "20:again " {
		t.Errorf("one that passed the rules before they went: %q", got)
	}
	c.at = c.at.Add(lateness)
	if got := said(r.take(21, syn(4009, "172.30.0.10:80", 1))); got != "21:drop " {
		t.Errorf("one that comes much later: %q", got)
	}
	if got := r.stats(); got != (Stats{Services: 1, Waiting: 1, Held: 8, Released: 7, Dropped: 1}) {
		t.Errorf("counts %+v", got)
	}
}

func TestAPacketWaitsTwoMinutes(t *testing.T) {
	c := &clock{time.Unix(1_000_000, 0)}
	r := newRoom(c.now)
	r.admit(Services{named("web"): {{addr(clusterIP), proxy.UDP, 80}}})
	for i := range uint32(3) {
		r.take(i, datagram("172.30.0.10:80"))
		c.at = c.at.Add(30 * time.Second)
	}
	if left, waiting := r.patience(); left != 30*time.Second || !waiting {
		t.Errorf("patience %v, %v", left, waiting)
	}
	if got := r.expire(); len(got) != 0 {
		t.Errorf("too early: %v", got)
	}
	c.at = c.at.Add(60 * time.Second)
	if got := r.expire(); !slices.Equal(got, []uint32{0, 1}) {
		t.Errorf("dropped %v", got)
	}
	if got := r.stats(); got.Waiting != 1 || got.Dropped != 2 {
		t.Errorf("counts %+v", got)
	}
}

// TestEveryPacketHasOneVerdictOrWaits compares any history with a count of its own.
func TestEveryPacketHasOneVerdictOrWaits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &clock{time.Unix(1_000_000, 0)}
		r := newRoom(c.now)
		waits := map[uint32]bool{}
		var next uint32
		judge := func(id uint32) {
			if !waits[id] {
				t.Fatalf("packet %d has a second verdict, or never came", id)
			}
			delete(waits, id)
		}
		current := Services{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				wanted := Services{}
				for i := range rapid.IntRange(0, 4).Draw(t, "services") {
					port := uint16(rapid.IntRange(1, 3).Draw(t, "port"))
					wanted[named(fmt.Sprint(i))] = []Frontend{{addr(fmt.Sprintf("172.30.0.%d", i+1)), proxy.TCP, port}, {addr(fmt.Sprintf("172.30.0.%d", i+1)), proxy.UDP, port}}
				}
				r.admit(wanted)
				for _, id := range r.keep(wanted) {
					judge(id)
				}
				current = wanted
			case 1:
				c.at = c.at.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "seconds")) * time.Second)
				for _, id := range r.expire() {
					judge(id)
				}
			default:
				to := fmt.Sprintf("172.30.0.%d:%d", rapid.IntRange(1, 4).Draw(t, "to"), rapid.IntRange(1, 3).Draw(t, "to port"))
				for i := range rapid.SampledFrom([]int{1, 3, 300}).Draw(t, "burst") {
					p := datagram(to)
					if rapid.Bool().Draw(t, "tcp") {
						p = syn(uint16(i%7), to, uint32(i/50))
					}
					waits[next] = true
					for _, v := range r.take(next, p).verdicts {
						judge(v.id)
					}
					next++
				}
			}
			got := r.stats()
			if got.Waiting != len(waits) || got.Waiting > maxWaiting || got.Services != len(current) {
				t.Fatalf("counts %+v, but %d packets wait for %d services", got, len(waits), len(current))
			}
			sum := 0
			for name, s := range r.services {
				if sum += s.waiting; s.waiting > maxOfService {
					t.Fatalf("%d packets wait for %v", s.waiting, name)
				}
			}
			if sum != got.Waiting || len(r.byStart) > got.Waiting {
				t.Fatalf("%d packets wait, services have %d, connections %d", got.Waiting, sum, len(r.byStart))
			}
		}
		r.keep(nil)
		if r.stats().Waiting != 0 || len(r.byStart) != 0 || len(r.services) != 0 || len(r.of) != 0 {
			t.Fatalf("something stays: %+v", r)
		}
	})
}
