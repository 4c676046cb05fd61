package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// engines are what can program services; each test of services runs with both.
var engines = []string{"iptables", "nftables"}

// shares is what `probe load` answers.
type shares struct {
	Answers map[string]int `json:"answers"` // "SERVER SOURCE" to how often
	Errors  map[string]int `json:"errors"`
	Slowest int64          `json:"slowestMicros"`
}

// by answers how often each server answered.
func (s shares) by() map[string]int {
	servers := map[string]int{}
	for pair, n := range s.Answers {
		server, _, _ := strings.Cut(pair, " ")
		servers[server] += n
	}
	return servers
}

// load makes connections from a place, as fast as it can.
func (c *cluster) load(t *testing.T, at place, protocol, addr string, count int) shares {
	t.Helper()
	return c.loadEach(t, at, protocol, "count", count, addr)[0]
}

// loadAsKnown is load for a service with affinity, from a client that it knows: of
// connections that a stranger makes at once, each may be the first.
func (c *cluster) loadAsKnown(t *testing.T, at place, protocol, addr string, count int) shares {
	t.Helper()
	return c.loadEach(t, at, protocol, "known", count, addr)[0]
}

// loadEach makes connections to one address after the other, with one probe: to start
// another takes as long as many connections.
func (c *cluster) loadEach(t *testing.T, at place, protocol, how string, count int, addrs ...string) []shares {
	t.Helper()
	to := strings.Join(addrs, ",")
	out, err := c.command(at, probeBinary, "load", protocol, to, how, fmt.Sprint(count)).Output()
	if err != nil {
		t.Fatalf("%s: load %s %s: %v", at, protocol, to, err)
	}
	all := make([]shares, len(addrs))
	answered := json.NewDecoder(bytes.NewReader(out))
	for i := range all {
		if err := answered.Decode(&all[i]); err != nil {
			t.Fatalf("load of %d addresses answered %q: %v", len(addrs), out, err)
		}
	}
	return all
}

func readShares(t *testing.T, out []byte) shares {
	t.Helper()
	var s shares
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("load answered %q: %v", out, err)
	}
	return s
}

// enough connections that each of two backends is hit: one is missed by chance
// once in a million times.
const enough = 20

// wantAnswers wants a service to be answered by just these servers, each of which
// saw just this client: "SERVER SOURCE".
func (c *cluster) wantAnswers(t *testing.T, at place, protocol, addr string, want ...string) {
	t.Helper()
	got := c.load(t, at, protocol, addr, enough)
	if seen := slices.Sorted(maps.Keys(got.Answers)); !slices.Equal(seen, slices.Sorted(slices.Values(want))) || len(got.Errors) > 0 {
		t.Errorf("%s by %s to %s: got %v, errors %v, want %v", at, protocol, addr, got.Answers, got.Errors, want)
	}
}

// The two ways in which a service does not answer.
const (
	refused = "connection refused"
	silence = "silence"
)

// wantUnanswered wants TCP and UDP to addresses to end in a way: refused at once, or
// silence.
func (c *cluster) wantUnanswered(t *testing.T, at place, want string, addrs ...string) {
	t.Helper()
	var lines []string
	for _, addr := range addrs {
		lines = append(lines, "tcp "+addr+" 1", "udp "+addr+" 1")
	}
	for _, r := range c.check(at, lines...) {
		words := r.Error
		switch {
		case strings.Contains(words, "timeout"):
			words = silence
		case strings.Contains(words, "operation not permitted"):
			words = refused // what the kernel says of a UDP packet of the node's own
		}
		if r.OK || !strings.Contains(words, want) {
			t.Errorf("%s: %s: got %q (server %q), want %s", at, r.Check, r.Error, r.Server, want)
		}
	}
}

// serveAll starts a server in each pod, under its name without namespace.
func (c *cluster) serveAll(port string, pods ...string) {
	c.t.Helper()
	for _, pod := range pods {
		_, name, _ := strings.Cut(pod, "/")
		c.start(inPod(pod), "serve", port, name)
	}
}

// apply makes services and slices as the text says, and waits for the nodes.
func (c *cluster) apply(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "services.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.ctl("service", "apply", "-f", file)
}

// slice is the text of an endpoint slice, named after its service, with ports of one
// number for TCP and UDP. Each endpoint is "ADDRESS [FIELDS]", such as
// "10.128.0.2 nodeName: node1".
func slice(service string, port int, endpoints ...string) string {
	namespace, name, _ := strings.Cut(service, "/")
	text := fmt.Sprintf("endpointSlices:\n- namespace: %s\n  name: %s\n  serviceName: %s\n"+
		"  ports: [{name: tcp, port: %d}, {name: udp, port: %d, protocol: UDP}]\n  endpoints:\n", namespace, name, name, port, port)
	for _, e := range endpoints {
		address, fields, _ := strings.Cut(e, " ")
		if fields != "" {
			fields = ", " + fields
		}
		text += fmt.Sprintf("  - {addresses: [%s]%s}\n", address, fields)
	}
	if len(endpoints) == 0 {
		text = strings.TrimSuffix(text, "\n") + " []\n"
	}
	return text
}

// atNode is an endpoint of a slice that runs on a node, in a state if one is given.
func atNode(address, node string, conditions ...string) string {
	text := address + " nodeName: " + node
	if len(conditions) > 0 {
		text += ", conditions: {" + strings.Join(conditions, ", ") + "}"
	}
	return text
}

// terminating is the state of an endpoint that still serves, on its way out.
const terminating = "ready: false, serving: true, terminating: true"

// settled waits until all nodes have a service with so many ready endpoints.
func (c *cluster) settled(t *testing.T, service string, endpoints int) {
	t.Helper()
	c.ctl("service", "wait", service, "--endpoints", fmt.Sprint(endpoints))
}

// setEngine makes another engine program a node's services, by a restart of its agent
// with another configuration.
func (c *cluster) setEngine(t *testing.T, node, engine string) {
	t.Helper()
	path := filepath.Join(c.node(node).GetDisk(), "etc", "damask", "nodeagent.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := string(text)
	for _, other := range engines {
		changed = strings.Replace(changed, "services: {engine: "+other, "services: {engine: "+engine, 1)
	}
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	c.run("lab", "kill", "--name", c.name, node, "nodeagent", "--signal", "TERM")
	c.run("lab", "start", "--name", c.name, node, "nodeagent")
}
