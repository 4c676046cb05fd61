package proxytest

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// connections is how many connections a share is measured over.
const connections = 1000

// chiSquareBound is the value that chi-square with two degrees of freedom passes once
// in 10,000 runs of a fair choice.
const chiSquareBound = 18.42

func shares(t *testing.T, r *rig) {
	s := service(proxy.TCP, toWeb, toAPI, toWeb2)
	s.ExternalLocal, s.OwnBackends = true, backends(toWeb, toWeb, toAPI, toWeb2)
	r.sync(t, s)
	for _, c := range []struct {
		from client
		to   string
		web  int // Shares of that server; each of the two others has one.
	}{{r.fromPod(), onCluster, 1}, {r.fromOutside(), onNodePort, 1}, {r.fromNode(), onNodePort, 2}} {
		counts := map[string]int{}
		var failure error
		c.from.ns.Do(t, func() {
			for range connections {
				a, err := askHere(t.Context(), c.from.bind, c.to, patience)
				if err != nil {
					failure = err
					return
				}
				counts[a.server]++
			}
		})
		if failure != nil {
			t.Fatalf("from %s to %s: %v", c.from.name, c.to, failure)
		}
		const servers = 3
		chi := 0.0
		for name, share := range map[string]int{"web": c.web, "api": 1, "web-2": 1} {
			expected := float64(connections*share) / float64(c.web+servers-1)
			chi += (float64(counts[name]) - expected) * (float64(counts[name]) - expected) / expected
		}
		t.Logf("from %s to %s: %v, chi-square %.2f", c.from.name, c.to, counts, chi)
		if chi > chiSquareBound || len(counts) != servers {
			t.Errorf("from %s to %s: shares %v, chi-square %.2f, want at most %.2f", c.from.name, c.to, counts, chi, chiSquareBound)
		}
	}
}

func udpRemoved(t *testing.T, r *rig) {
	all := []string{toWeb, toAPI}
	r.sync(t, service(proxy.UDP, all...))
	for _, c := range []struct {
		from client
		to   string
	}{{r.fromPod(), onCluster}, {r.fromOutside(), onNodePort}, {r.fromNode(), onCluster}, {r.fromOutside(), onBalancer}} {
		r.apply(t, service(proxy.UDP, all...))
		conn := c.from.open(t, "udp4", c.to)
		var was answer
		for range 5 {
			got, err := exchange(conn, patience)
			if err != nil {
				t.Fatalf("from %s to %s: %v", c.from.name, c.to, err)
			}
			if was.server != "" && got != was {
				t.Fatalf("from %s to %s: %v, then %v without any change", c.from.name, c.to, was, got)
			}
			was = got
		}
		keep, want := toWeb, "web"
		if was.server == "web" {
			keep, want = toAPI, "api"
		}
		r.apply(t, service(proxy.UDP, keep))
		if got, err := exchange(conn, patience); err != nil || got.server != want {
			t.Errorf("from %s to %s after %s was removed: got %v, error %v, want %s", c.from.name, c.to, was.server, got, err, want)
		}
	}
}

func udpEarly(t *testing.T, r *rig) {
	r.sync(t)
	early := r.fromPod().open(t, "udp4", onCluster)
	if _, err := early.Write([]byte("who")); err != nil {
		t.Fatal(err)
	}
	r.apply(t, service(proxy.UDP, toWeb))
	if got, err := exchange(early, patience); err != nil || got.server != "web" {
		t.Errorf("a client from before the service: got %v, error %v", got, err)
	}
}

func survival(t *testing.T, r *rig) {
	s := service(proxy.TCP, toWeb)
	r.sync(t, s)
	conn := r.fromPod().open(t, "tcp4", onCluster)
	lines := bufio.NewReader(conn)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	alive := func(when string) {
		t.Helper()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintln(conn, when); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if got, err := lines.ReadString('\n'); err != nil || strings.TrimSpace(got) != when {
			t.Fatalf("%s: got %q, error %v", when, got, err)
		}
	}
	alive("at first")
	s.ClusterBackends = backends(toWeb, toAPI)
	r.apply(t, s)
	alive("with one more backend")
	r.restart(t)
	r.sync(t, s)
	alive("after a restart")
	s.ClusterBackends = backends(toAPI)
	r.apply(t, s)
	alive("after its own backend took its leave and lives on")
}

// stream asks 200 times a second while backends come and go. The three servers are
// always alive, and one of them is always a backend.
func stream(t *testing.T, r *rig) {
	const rate, changes = 200, 40
	sets := [][]string{{toWeb, toAPI, toWeb2}, {toAPI}, {toAPI, toWeb2}, {toWeb}, {toWeb, toAPI}, {toWeb2}}
	s := service(proxy.TCP, sets[0]...)
	r.sync(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type result struct {
		asked    int
		failures []string
	}
	done := make(chan result, 1)
	go func() {
		var got result
		defer func() { done <- got }()
		r.client.Do(t, func() {
			tick := time.NewTicker(time.Second / rate)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				got.asked++
				if _, err := askHere(t.Context(), "", onCluster, patience); err != nil {
					got.failures = append(got.failures, err.Error())
				}
			}
		})
	}()
	pace := time.NewTicker(50 * time.Millisecond)
	defer pace.Stop()
	for i := range changes {
		s.ClusterBackends = backends(sets[i%len(sets)]...)
		s.ExternalBackends = s.ClusterBackends
		if i == changes/2 {
			r.restart(t)
			r.sync(t, s)
		}
		r.apply(t, s)
		<-pace.C
	}
	cancel()
	got := <-done
	t.Logf("%d connections over %d changes", got.asked, changes)
	if len(got.failures) > 0 || got.asked < changes {
		t.Errorf("%d of %d connections failed: %v", len(got.failures), got.asked, got.failures)
	}
}

func quiet(t *testing.T, r *rig) {
	rich := service(proxy.TCP, toWeb, toAPI, toWeb2)
	rich.Affinity, rich.ExternalLocal, rich.HealthCheckNodePort = time.Hour, true, 32000
	rich.ExternalBackends, rich.OwnBackends = backends(toWeb), backends(toWeb, outsideAddr+":30080")
	rich.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	empty := service(proxy.UDP)
	stream := service(proxy.SCTP, toWeb, toAPI)
	stream.PortName = ""
	all := []proxy.Service{rich, empty, stream}
	if first := r.sync(t, all...); first.Added == 0 {
		t.Errorf("the first sync reports %+v", first)
	}
	before := r.handles(t)
	if again := r.sync(t, all...); !again.None() {
		t.Errorf("the second sync changes %+v", again)
	}
	r.apply(t, all...)
	r.restart(t)
	if again := r.sync(t, all...); !again.None() {
		t.Errorf("the sync after a restart changes %+v", again)
	}
	r.apply(t, all...)
	if after := r.handles(t); after != before {
		t.Errorf("rules were written again:\n%s\nto\n%s", before, after)
	}
}

func leftovers(t *testing.T, r *rig) {
	stays, goes := service(proxy.TCP, toWeb), service(proxy.TCP, toAPI)
	goes.Name, goes.Port, goes.NodePort = "goes", 81, 30081
	goes.Affinity, goes.SourceRanges = time.Hour, []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	r.sync(t, stays)
	want := r.ruleset(t)
	both := stays
	both.ClusterBackends = backends(toWeb, toAPI)
	r.sync(t, both, goes)
	r.fromPod().wantAnswer(t, clusterIP+":81", "api", clientAddr)
	r.restart(t)
	if changes := r.sync(t, stays); changes.Removed == 0 {
		t.Errorf("the sync that drops leftovers reports %+v", changes)
	}
	if got := r.ruleset(t); got != want {
		t.Errorf("after leftovers went:\n%s\nwant\n%s", got, want)
	}
	r.fromPod().wantAnswer(t, onCluster, "web", clientAddr)
}

// histories applies random changes, and asks a fresh engine whether anything differs
// from the whole state.
func histories(t *testing.T, r *rig) {
	r.sync(t)
	empty := r.ruleset(t)
	for seed := range uint64(3) {
		random := rand.New(rand.NewPCG(seed, seed))
		state := proxy.State{}
		for range 12 {
			var changes []proxy.Change
			for range 1 + random.IntN(3) {
				s := randomService(random)
				if random.IntN(4) == 0 {
					delete(state, s.Key)
					changes = append(changes, proxy.Change{Key: s.Key})
					continue
				}
				state[s.Key] = s
				changes = append(changes, proxy.Change{Key: s.Key, Service: &s})
			}
			r.change(t, changes...)
		}
		r.restart(t)
		var services []proxy.Service
		for _, s := range state {
			services = append(services, s)
		}
		if differs := r.sync(t, services...); !differs.None() {
			t.Errorf("history %d ends %+v away from a full load of %+v", seed, differs, state)
		}
		for key := range state {
			r.change(t, proxy.Change{Key: key})
		}
		if got := r.ruleset(t); got != empty {
			t.Fatalf("history %d: without services:\n%s\nwant\n%s", seed, got, empty)
		}
	}
}

// randomService makes one of a few services, with addresses that are its own.
func randomService(random *rand.Rand) proxy.Service {
	n := random.IntN(5)
	pick := func(texts ...string) []string {
		random.Shuffle(len(texts), func(i, j int) { texts[i], texts[j] = texts[j], texts[i] })
		return texts[:random.IntN(len(texts)+1)]
	}
	s := service([]proxy.Protocol{proxy.TCP, proxy.UDP, proxy.SCTP}[n%3], pick(toWeb, toAPI, toWeb2)...)
	s.Name, s.Port, s.NodePort = fmt.Sprintf("s%d", n), uint16(100+10*n+random.IntN(2)), uint16(30100+10*n+random.IntN(2))
	s.ExternalLocal, s.InternalLocal = random.IntN(2) == 0, random.IntN(4) == 0
	if s.ExternalLocal {
		s.ExternalBackends = backends(pick(toWeb, toAPI)...)
		s.OwnBackends = backends(pick(toWeb, outsideAddr+":30080")...)
	}
	if random.IntN(2) == 0 {
		s.Affinity = time.Duration(1+random.IntN(2)) * time.Hour
	}
	if random.IntN(2) == 0 {
		s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("192.0.2.0/24")}[:1+random.IntN(2)]
	}
	if random.IntN(3) == 0 {
		s.ExternalIPs, s.NodePort = nil, 0
	}
	if random.IntN(3) == 0 {
		s.HealthCheckNodePort = uint16(32000 + n)
	}
	return s
}
