package proxytest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// Run runs the contract for one engine.
func Run(t *testing.T, maker Maker) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, r *rig)
	}{
		{"each address is reached from everywhere and the backend sees the right client", addresses},
		{"local policy keeps the client's address", localPolicy},
		{"the node itself gets what is its own", ownBackends},
		{"a node port answers on the node's own addresses only", nodePorts},
		{"other settings of the node are kept", otherSettings},
		{"a pod reaches itself through its service", hairpin},
		{"backends outside of the pods are reached", otherBackends},
		{"a service without backends refuses", refuses},
		{"a local policy without a local backend is silent", silent},
		{"source ranges concern the load balancer's addresses only", sourceRanges},
		{"a client stays with its backend", affinity},
		{"backends get equal shares", shares},
		{"udp clients leave a removed backend", udpRemoved},
		{"udp clients that were too early reach the first backend", udpEarly},
		{"connections survive changes of others", survival},
		{"no connection fails while backends change", stream},
		{"a second sync sends nothing", quiet},
		{"leftovers go and nothing else", leftovers},
		{"changes end where a full load ends", histories},
		{"others' rules stay and cleanup leaves what was before", foreign},
		{"bad input is refused and changes nothing", badInput},
		{"an address moves to another service in one call", moves},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, newRig(t, maker)) })
	}
}

// All addresses of service.
const (
	onCluster   = clusterIP + ":80"
	onNodePort  = nodeOutside + ":30080"
	onTun0Port  = nodeOnTun0 + ":30080"
	onExternal  = externalIP + ":80"
	onBalancer  = balancerIP + ":80"
	bothServers = "web api"
)

func addresses(t *testing.T, r *rig) {
	r.sync(t, service(proxy.TCP, toWeb, toAPI))
	for _, c := range []struct {
		from   client
		to     string
		seenAs string
	}{
		{r.fromPod(), onCluster, clientAddr},
		{r.fromNode(), onCluster, nodeOnTun0},
		{r.fromOutside(), onCluster, nodeOnTun0},
		{r.fromPod(), onNodePort, clientAddr},
		{r.fromPod(), onTun0Port, clientAddr},
		{r.fromNode(), onNodePort, nodeOnTun0},
		{r.fromOutside(), onNodePort, nodeOnTun0},
		{r.fromPod(), onExternal, clientAddr},
		{r.fromNode(), onExternal, nodeOnTun0},
		{r.fromOutside(), onExternal, nodeOnTun0},
		{r.fromPod(), onBalancer, clientAddr},
		{r.fromNode(), onBalancer, nodeOnTun0},
		{r.fromOutside(), onBalancer, nodeOnTun0},
	} {
		c.from.wantAnswer(t, c.to, bothServers, c.seenAs)
	}
	// The service is gone, and so is what was at its addresses.
	r.change(t, proxy.Change{Key: service(proxy.TCP).Key})
	r.fromOutside().wantRefused(t, onNodePort)
	if got, err := r.fromOutside().ask(t, onExternal, silence); err == nil {
		t.Errorf("a service that is gone still answers: %v", got)
	}
}

func localPolicy(t *testing.T, r *rig) {
	s := service(proxy.TCP, toWeb, toAPI)
	s.ExternalLocal, s.ExternalBackends = true, backends(toAPI)
	r.sync(t, s)
	for _, to := range []string{onNodePort, onExternal, onBalancer} {
		r.fromOutside().wantAnswer(t, to, "api", outsideAddr)
		r.fromStranger().wantAnswer(t, to, "api", strangerAddr)
		// Pods and the node have the backends of the whole cluster.
		r.fromPod().wantAnswer(t, to, bothServers, clientAddr)
		r.fromNode().wantAnswer(t, to, bothServers, nodeOnTun0)
	}
	r.fromOutside().wantAnswer(t, onCluster, bothServers, nodeOnTun0)

	s.InternalLocal, s.ClusterBackends = true, backends(toAPI)
	r.apply(t, s)
	for range 8 {
		r.fromPod().wantAnswer(t, onCluster, "api", clientAddr)
		r.fromPod().wantAnswer(t, onNodePort, "api", clientAddr)
	}
	s.ExternalLocal, s.ExternalBackends = false, backends(toWeb)
	r.apply(t, s)
	for range 8 {
		r.fromPod().wantAnswer(t, onCluster, "api", clientAddr)
		r.fromOutside().wantAnswer(t, onNodePort, "web", nodeOnTun0)
	}
}

// ownBackends: a node's own connections go to another node, with the address that they
// leave by. Nobody else's do.
func ownBackends(t *testing.T, r *rig) {
	r.serve(t, r.outside, "far", 30080)
	for _, affinity := range []time.Duration{0, time.Hour} {
		s := service(proxy.TCP, toWeb, toAPI)
		s.ExternalLocal, s.ExternalBackends, s.Affinity = true, backends(toAPI), affinity
		s.OwnBackends = backends(outsideAddr + ":30080")
		r.sync(t, s)
		for _, to := range []string{onNodePort, onExternal, onBalancer} {
			r.fromNode().wantAnswer(t, to, "far", nodeOutside)
			r.fromPod().wantAnswer(t, to, bothServers, clientAddr)
			r.fromOutside().wantAnswer(t, to, "api", outsideAddr)
		}
		r.fromNode().wantAnswer(t, onCluster, bothServers, nodeOnTun0)
		s.OwnBackends = backends(toWeb2)
		r.apply(t, s)
		r.fromNode().wantAnswer(t, onNodePort, "web-2", nodeOnTun0)
		s.OwnBackends = backends(toWeb, toWeb, toWeb, toAPI)
		r.apply(t, s)
		r.fromNode().wantAnswer(t, onNodePort, bothServers, nodeOnTun0)
		s.OwnBackends = nil
		r.apply(t, s)
		r.fromNode().wantAnswer(t, onNodePort, bothServers, nodeOnTun0)
		s.ExternalLocal, s.OwnBackends = false, backends(outsideAddr+":30080") // Not with that policy.
		r.apply(t, s)
		r.fromNode().wantAnswer(t, onNodePort, "api", nodeOnTun0)
	}
}

func nodePorts(t *testing.T, r *rig) {
	s := service(proxy.TCP, toWeb)
	r.sync(t, s)
	r.fromOutside().wantAnswer(t, onNodePort, "web", nodeOnTun0)
	// The same port of a pod is the pod's own.
	r.fromOutside().wantRefused(t, webAddress+":30080")
	r.fromNode().wantRefused(t, "127.0.0.1:30080")
	s.NodePort = 30081
	r.apply(t, s)
	r.fromOutside().wantRefused(t, onNodePort)
	r.fromOutside().wantAnswer(t, nodeOutside+":30081", "web", nodeOnTun0)
}

// otherSettings: two networks of pods, another mark, node ports on one network only.
func otherSettings(t *testing.T, r *rig) {
	r.settings.ClusterNetworks = []netip.Prefix{netip.MustParsePrefix("10.130.0.0/23"), netip.MustParsePrefix("10.140.0.0/16")}
	r.settings.MasqueradeBit = 14
	r.settings.NodePortNetworks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	r.restart(t)
	s := service(proxy.TCP, toWeb, toAPI)
	r.sync(t, s)
	r.fromPod().wantAnswer(t, onCluster, bothServers, clientAddr)
	r.fromNode().wantAnswer(t, onCluster, bothServers, nodeOnTun0)
	r.fromOutside().wantAnswer(t, onCluster, bothServers, nodeOnTun0)
	r.fromOutside().wantAnswer(t, onNodePort, bothServers, nodeOnTun0)
	r.fromPod().wantRefused(t, onTun0Port)
	s.ExternalLocal = true
	r.apply(t, s)
	r.fromPod().wantAnswer(t, onNodePort, bothServers, clientAddr)
	r.fromOutside().wantAnswer(t, onNodePort, bothServers, outsideAddr)
	r.restart(t)
	if changes := r.sync(t, s); !changes.None() {
		t.Errorf("a restart changes %+v", changes)
	}
	// The settings change back: what depended on them is leftover.
	r.settings = settings()
	r.restart(t)
	r.sync(t, s)
	r.fromPod().wantAnswer(t, onTun0Port, bothServers, clientAddr)
	r.fromOutside().wantAnswer(t, onCluster, bothServers, nodeOnTun0)
}

func hairpin(t *testing.T, r *rig) {
	s := service(proxy.TCP, toWeb)
	r.sync(t, s)
	r.fromWeb().wantAnswer(t, onCluster, "web", nodeOnTun0)
	r.fromWeb().wantAnswer(t, onExternal, "web", nodeOnTun0)
	s.ExternalLocal = true
	r.apply(t, s)
	r.fromWeb().wantAnswer(t, onNodePort, "web", nodeOnTun0)
}

func otherBackends(t *testing.T, r *rig) {
	r.serve(t, r.node, "host", 9090)
	r.serve(t, r.outside, "far", 9091)
	s := service(proxy.TCP, nodeOutside+":9090")
	r.sync(t, s)
	// What stays on the node is never masqueraded: no packet leaves it.
	r.fromPod().wantAnswer(t, onCluster, "host", clientAddr)
	r.fromOutside().wantAnswer(t, onNodePort, "host", outsideAddr)
	s.ClusterBackends = backends(outsideAddr + ":9091")
	s.ExternalBackends = s.ClusterBackends
	r.apply(t, s)
	r.fromPod().wantAnswer(t, onCluster, "far", clientAddr)
	r.fromOutside().wantAnswer(t, onNodePort, "far", nodeOutside)
}

func refuses(t *testing.T, r *rig) {
	full := service(proxy.TCP, toWeb)
	empty := service(proxy.TCP)
	other := service(proxy.TCP, toAPI)
	other.Name, other.Port, other.NodePort = "other", 81, 30081
	everywhere := func(want func(c client, to string)) {
		for _, c := range []client{r.fromPod(), r.fromNode(), r.fromOutside()} {
			for _, to := range []string{onCluster, onNodePort, onExternal, onBalancer} {
				want(c, to)
			}
		}
	}
	refused := func(c client, to string) { c.wantRefused(t, to) }
	answered := func(c client, to string) {
		if got, err := c.ask(t, to, patience); err != nil || got.server != "web" {
			t.Errorf("from %s to %s: got %v, error %v", c.name, to, got, err)
		}
	}
	r.sync(t, empty, other)
	everywhere(refused)
	r.apply(t, full)
	everywhere(answered)
	r.apply(t, empty)
	everywhere(refused)
	r.fromOutside().wantAnswer(t, clusterIP+":81", "api", nodeOnTun0)
	r.fromPod().wantAnswer(t, externalIP+":81", "api", clientAddr)

	udp := service(proxy.UDP)
	r.apply(t, udp)
	if got, err := exchange(r.fromPod().open(t, "udp4", onCluster), patience); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("udp without backends: got %v, error %v; want connection refused", got, err)
	}
}

func silent(t *testing.T, r *rig) {
	s := service(proxy.TCP, toWeb)
	s.ExternalLocal, s.ExternalBackends = true, nil
	r.sync(t, s)
	r.fromOutside().wantSilence(t, onNodePort)
	r.fromOutside().wantSilence(t, onExternal)
	r.fromOutside().wantSilence(t, onBalancer)
	r.fromPod().wantAnswer(t, onCluster, "web", clientAddr)
	r.fromPod().wantAnswer(t, onNodePort, "web", clientAddr)
	r.fromNode().wantAnswer(t, onExternal, "web", nodeOnTun0)

	s = service(proxy.TCP, toWeb)
	s.InternalLocal, s.ClusterBackends = true, nil
	r.apply(t, s)
	r.fromPod().wantSilence(t, onCluster)
	r.fromOutside().wantAnswer(t, onNodePort, "web", nodeOnTun0)

	s.InternalLocal, s.ExternalBackends, s.Held = false, nil, true
	r.apply(t, s)
	r.fromPod().wantSilence(t, onCluster)
	r.fromOutside().wantSilence(t, onNodePort)
	r.fromNode().wantSilence(t, onExternal)
}

func sourceRanges(t *testing.T, r *rig) {
	s := service(proxy.TCP, toWeb)
	s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix(outsideAddr + "/32")}
	r.sync(t, s)
	r.fromOutside().wantAnswer(t, onBalancer, "web", nodeOnTun0)
	r.fromStranger().wantSilence(t, onBalancer)
	r.fromStranger().wantAnswer(t, onExternal, "web", nodeOnTun0)
	r.fromStranger().wantAnswer(t, onNodePort, "web", nodeOnTun0)
	r.fromStranger().wantAnswer(t, onCluster, "web", nodeOnTun0)
	s.ExternalLocal = true
	r.apply(t, s)
	r.fromOutside().wantAnswer(t, onBalancer, "web", outsideAddr)
	r.fromStranger().wantSilence(t, onBalancer)
	s.SourceRanges = nil
	r.apply(t, s)
	r.fromStranger().wantAnswer(t, onBalancer, "web", strangerAddr)
}

func affinity(t *testing.T, r *rig) {
	s := service(proxy.TCP, toWeb, toAPI)
	s.Affinity = 3 * time.Hour
	r.sync(t, s)
	clients := []client{r.fromPod(), r.fromOutside(), r.fromNode()}
	first := make([]string, len(clients))
	stays := func(when string) {
		t.Helper()
		for i, c := range clients {
			for range 10 {
				got, err := c.ask(t, onCluster, patience)
				if err != nil {
					t.Fatalf("%s, from %s: %v", when, c.name, err)
				}
				if first[i] == "" {
					first[i] = got.server
				}
				if got.server != first[i] {
					t.Fatalf("%s, from %s: got %s, want %s as at first", when, c.name, got.server, first[i])
				}
			}
		}
	}
	stays("at first")
	s.ClusterBackends = backends(toWeb, toWeb2, toAPI)
	s.ExternalBackends = s.ClusterBackends
	r.apply(t, s)
	stays("with one more backend")
	r.restart(t)
	r.sync(t, s)
	stays("after a restart")
	// The backend of the pod goes; the pod gets another and stays with that.
	keep := toWeb
	if first[0] == "web" {
		keep = toAPI
	}
	s.ClusterBackends = backends(keep)
	s.ExternalBackends = s.ClusterBackends
	r.apply(t, s)
	clients, first = clients[:1], []string{map[string]string{toWeb: "web", toAPI: "api"}[keep]}
	stays("after its backend went")
}

func badInput(t *testing.T, r *rig) {
	good := service(proxy.TCP, toWeb)
	r.sync(t, good)
	before := r.ruleset(t)
	rival := service(proxy.TCP, toAPI)
	rival.Name = "rival"
	bad := service(proxy.TCP, toAPI)
	bad.Key = proxy.Key{Namespace: "shop", Name: `x" -j ACCEPT`, Protocol: "ICMP"}
	bad.NodePort, bad.ClusterIPs, bad.ExternalIPs, bad.LoadBalancerIPs = 0, nil, nil, nil
	for _, services := range [][]proxy.Service{{good, rival}, {good, bad}} {
		wrong := services[1]
		r.node.Do(t, func() {
			if err := r.engine.Apply(t.Context(), proxy.Change{Key: wrong.Key, Service: &wrong}); err == nil || !strings.Contains(err.Error(), wrong.Name[:1]) {
				t.Errorf("Apply of %v: got error %v", wrong.Key, err)
			}
			if _, err := r.engine.Sync(t.Context(), stateOf(services...)); err == nil || !strings.Contains(err.Error(), wrong.Name[:1]) {
				t.Errorf("Sync with %v: got error %v", wrong.Key, err)
			}
		})
	}
	if after := r.ruleset(t); after != before {
		t.Errorf("bad input changed the rules:\n%s\nto\n%s", before, after)
	}
	r.node.Do(t, func() {
		if err := r.make(t, r.settings).Apply(t.Context(), proxy.Change{Key: good.Key}); err == nil {
			t.Error("Apply before any Sync is not refused")
		}
	})
}

func moves(t *testing.T, r *rig) {
	old := service(proxy.TCP, toWeb)
	r.sync(t, old)
	r.fromPod().wantAnswer(t, onCluster, "web", clientAddr)
	heir := service(proxy.TCP, toAPI)
	heir.Name = "heir"
	r.change(t, proxy.Change{Key: old.Key}, proxy.Change{Key: heir.Key, Service: &heir})
	for _, to := range []string{onCluster, onNodePort, onExternal, onBalancer} {
		if got, err := r.fromOutside().ask(t, to, patience); err != nil || got.server != "api" {
			t.Errorf("%s after the move: got %v, error %v", to, got, err)
		}
	}
	r.restart(t)
	if changes := r.sync(t, heir); !changes.None() {
		t.Errorf("a restart after the move changes %+v\n%s", changes, fmt.Sprint(r.ruleset(t)))
	}
}
