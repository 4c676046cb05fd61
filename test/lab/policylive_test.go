package lab

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// liveTopology has a client whose connections policies allow, in every mode that has
// policies, and one whose they will forbid.
const liveTopology = `
mode: networkpolicy
nodes: [{name: node1}, {name: node2}]
namespaces: [{name: x}, {name: y}]
pods:
- {namespace: x, name: web, node: node1, labels: {app: web}}
- {namespace: x, name: far, node: node2, labels: {app: web}}
- {namespace: x, name: client, node: node1, labels: {app: client}}
- {namespace: x, name: other, node: node2, labels: {app: other}}
networkPolicies:
- {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: x, name: web}, spec: {podSelector: {matchLabels: {app: web}},
   ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}, {from: [{podSelector: {matchLabels: {app: other}}}]}]}}
`

const onlyClient = `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}`

// storePolicy stores a NetworkPolicy of a namespace. Flags may say that nobody waits.
func (c *cluster) storePolicy(t *testing.T, namespace, name, spec string, flags ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.yaml")
	text := fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: %s, name: %s}\nspec: %s\n", namespace, name, spec)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.ctl(append([]string{"policy", "apply", "-f", file}, flags...)...)
}

// TestConnectionsThatPoliciesAllowGoOn keeps traffic going while other policies change, the
// agents are killed and started, and the mode changes.
func TestConnectionsThatPoliciesAllowGoOn(t *testing.T) {
	c := up(t, liveTopology)
	flows := map[string]*background{}
	for _, web := range []string{"x/web", "x/far"} {
		c.start(inPod(web), "reply", port)
		flows[web] = c.start(inPod("x/client"), "flow", c.podIP(web)+":"+port, cmp.Or(os.Getenv("DAMASK_PACE"), "5ms"))
	}
	// Others' policies, those of the same pods, and another version of the same one.
	c.storePolicy(t, "y", "other", `{podSelector: {}, policyTypes: [Egress]}`)
	c.storePolicy(t, "x", "more", `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}]}]}`)
	c.storePolicy(t, "x", "web", onlyClient)
	c.ctl("label", "pod", "x/other", "app=client")
	c.ctl("policy", "delete", "x/more")
	for _, node := range []string{"node1", "node2"} {
		c.run("lab", "kill", "--name", c.name, node, "nodeagent", "--signal", "KILL")
		c.run("lab", "start", "--name", c.name, node, "nodeagent")
	}
	for _, mode := range []string{"combined", "multitenant", "combined", "networkpolicy"} {
		c.ctl("mode", "set", mode)
	}
	for web, f := range flows {
		seen := readTraffic(t, f)
		t.Logf("x/client to %s: %d of %d datagrams lost; %+v", web, seen.UDPSent-seen.UDPReturned, seen.UDPSent, seen)
		if seen.StreamError != "" || seen.StreamReturned != seen.StreamSent || seen.StreamSent == 0 {
			t.Errorf("x/client to %s: the connection did not stay open: %+v", web, seen)
		}
		if seen.Refused != 0 || seen.Connected == 0 {
			t.Errorf("x/client to %s: %d new connections, %d refused (%s)", web, seen.Connected, seen.Refused, seen.LastError)
		}
	}
}

// cutWithin is how long after a policy is in force what it forbids may still pass: until
// the switch has looked at what it has cached.
const cutWithin = time.Second

// TestWhatAPolicyForbidsNowIsCut looks at established connections, within a node and
// between two.
func TestWhatAPolicyForbidsNowIsCut(t *testing.T) {
	c := up(t, liveTopology)
	webs := []string{"x/web", "x/far"}
	flows := map[string]*background{}
	for _, web := range webs {
		c.start(inPod(web), "reply", port)
		flows[web] = c.start(inPod("x/other"), "flow", c.podIP(web)+":"+port, "5ms")
	}
	c.storePolicy(t, "x", "web", onlyClient)
	inForce := time.Now()
	time.Sleep(2 * cutWithin) // That nothing passes now is what is tested.
	for _, web := range webs {
		var seen traffic
		if err := json.Unmarshal(flows[web].end(t), &seen); err != nil {
			t.Fatal(err)
		}
		for what, last := range map[string]int64{"datagram": seen.UDPLastMicros, "record of the TCP connection": seen.StreamLastMicros} {
			late := time.UnixMicro(last).Sub(inForce)
			t.Logf("x/other to %s: the last %s came back %s after the policy was in force", web, what, late.Round(time.Millisecond))
			if last == 0 || late > cutWithin {
				t.Errorf("x/other to %s: the last %s came back after %s, want %s at most: %+v", web, what, late, cutWithin, seen)
			}
		}
		if seen.StreamReturned == seen.StreamSent || seen.Refused == 0 {
			t.Errorf("x/other to %s goes on: %+v", web, seen)
		}
	}
	t.Run("a new pod that it allows is let in at once", func(t *testing.T) { c.in(t).wantNewPeers(t) })
}

// newPeers is how many pods come to each node, and peerWithin how long after ADD has
// returned another pod's policy may still keep one of them out.
const (
	newPeers   = 3
	peerWithin = time.Second
)

// wantNewPeers starts pods that x/web's policy lets in, on its node and on the other one.
// They ask x/web from the moment on at which they may run.
func (c *cluster) wantNewPeers(t *testing.T) {
	c.start(inPod("x/web"), "serve", "9000", "x/web")
	web := c.podIP("x/web") + ":9000"
	var began, let []time.Duration
	for n := range newPeers {
		for _, node := range []string{"node1", "node2"} {
			name := fmt.Sprintf("x/new%d-%s", n, node)
			c.run("lab", "pod", "add", "--name", c.name, name, "--node", node, "--label", "app=client")
			added := time.Now()
			series := c.start(inPod(name), "series", "udp", web, "10ms")
			wantAll(t, inPod(name), c.check(inPod(name), "tcp "+web+" 10"))
			var all []struct {
				At    int64 // µs
				Error string
			}
			if err := json.Unmarshal(series.end(t), &all); err != nil {
				t.Fatal(err)
			}
			first, answered := int64(math.MaxInt64), int64(math.MaxInt64)
			for _, asked := range all {
				if first = min(first, asked.At); asked.Error == "" {
					answered = min(answered, asked.At)
				}
			}
			began, let = append(began, time.UnixMicro(first).Sub(added)), append(let, time.UnixMicro(answered).Sub(added))
			if let[len(let)-1] > peerWithin {
				t.Errorf("%s asked from %s on after ADD had returned; what it asked after %s was answered, want %s at most: %+v", name, began[len(began)-1], let[len(let)-1], peerWithin, all)
			}
		}
	}
	slices.Sort(let)
	t.Logf("%d new pods were let in %s after ADD had returned, %s at most; they had asked from %s on", len(let), let[len(let)/2], let[len(let)-1], slices.Min(began))
}

// meanwhileTopology has pods on the node whose agent is away, and on another one.
const meanwhileTopology = `
mode: networkpolicy
nodes: [{name: node1}, {name: node2}]
namespaces: [{name: x}, {name: y}, {name: z}, {name: v}, {name: w, labels: {team: b}}]
pods:
- {namespace: x, name: web, node: node1, labels: {app: web}}
- {namespace: x, name: shut, node: node1, labels: {app: shut}}
- {namespace: x, name: team, node: node1, labels: {app: team}}
- {namespace: v, name: client, node: node2}
- {namespace: w, name: client, node: node2}
- {namespace: x, name: ear, node: node2, labels: {app: ear}}
- {namespace: x, name: client, node: node2, labels: {app: client}}
- {namespace: x, name: leaving, node: node2, labels: {app: client}}
- {namespace: x, name: other, node: node2, labels: {app: other}}
networkPolicies:
- {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: x, name: shut}, spec: {podSelector: {matchLabels: {app: shut}}}}
- {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: x, name: team}, spec: {podSelector: {matchLabels: {app: team}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: b}}}]}]}}
`

// TestWhatChangedWithoutTheAgentIsInForceWhenItsPodsTalk changes policies, labels and pods
// while a node has no agent. With the agent it is all there, before a new pod's first packet.
func TestWhatChangedWithoutTheAgentIsInForceWhenItsPodsTalk(t *testing.T) {
	c := up(t, meanwhileTopology)
	lines := map[string]string{}
	for _, pod := range []string{"x/web", "x/shut", "x/team"} {
		c.start(inPod(pod), "serve", port, pod)
		lines[pod] = "tcp " + c.podIP(pod) + ":" + port + " 10"
	}
	ear := c.start(inPod("x/ear"), "hear", "9000")
	eager := c.start(onNode("node1"), "eager", "/run/netns", c.podIP("x/ear")+":9000")
	c.wantWays(t, map[way]bool{
		{"x/client", lines["x/web"]}: true, {"x/other", lines["x/web"]}: true, {"x/client", lines["x/shut"]}: false,
		{"v/client", lines["x/team"]}: false, {"w/client", lines["x/team"]}: true,
	})

	c.run("lab", "kill", "--name", c.name, "node1", "nodeagent", "--signal", "KILL")
	c.storePolicy(t, "x", "web", onlyClient, "--wait=false")
	c.storePolicy(t, "y", "silent", `{podSelector: {}, policyTypes: [Egress]}`, "--wait=false")
	c.run("lab", "pod", "delete", "--name", c.name, "x/leaving")
	c.run("lab", "pod", "add", "--name", c.name, "x/new", "--node", "node2", "--label", "app=client")
	c.ctl("label", "pod", "x/other", "app=none", "--wait=false")
	c.ctl("policy", "delete", "x/shut", "--wait=false")
	joins, leaves := []string{"label", "namespace", "v", "team=b"}, []string{"label", "namespace", "w", "team-"}
	for _, change := range [][]string{joins, leaves} {
		c.ctl(append(change, "--wait=false")...)
	}
	c.run("lab", "start", "--name", c.name, "node1", "nodeagent")

	c.run("lab", "pod", "add", "--name", c.name, "y/late", "--node", "node1")
	c.run("lab", "pod", "add", "--name", c.name, "z/free", "--node", "node1")
	// All of it is stored already: this waits.
	c.storePolicy(t, "x", "web", onlyClient)
	for _, change := range [][]string{{"policy", "delete", "x/shut"}, joins, leaves} {
		c.ctl(change...)
	}
	c.wantWays(t, map[way]bool{
		{"x/client", lines["x/web"]}: true, {"x/new", lines["x/web"]}: true, {"x/other", lines["x/web"]}: false, {"x/client", lines["x/shut"]}: true,
		{"v/client", lines["x/team"]}: true, {"w/client", lines["x/team"]}: false,
	})

	if got := strings.TrimSpace(string(eager.end(t))); got != "2" {
		t.Errorf("%s new pods sent something, want 2", got)
	}
	var heard []struct{ Source string }
	if err := json.Unmarshal(ear.end(t), &heard); err != nil {
		t.Fatal(err)
	}
	from := map[string]int{}
	for _, h := range heard {
		from[h.Source]++
	}
	if late, free := from[c.podIP("y/late")], from[c.podIP("z/free")]; late != 0 || free == 0 {
		t.Errorf("%d packets came of the new pod that may send nothing, %d of the one that may: %v", late, free, from)
	}
}
