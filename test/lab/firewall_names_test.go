package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The names of red are looked up while nobody answers. The world outside is a network
// behind a host of its own, all of whose addresses answer.
const namesTopology = `
nodes: [{name: node1}, {name: node2}]
outside: [{name: resolver, ip: 192.168.108.1}, {name: world, ip: 192.168.108.2}]
dnsServers: ["192.168.108.1:5353"]
namespaces: [{name: red}, {name: blue}]
pods: [{namespace: red, name: a, node: node1}, {namespace: red, name: b, node: node2}, {namespace: blue, name: a, node: node1}]
egressFirewalls:
- namespace: red
  egress:
  - {type: Allow, to: {dnsName: zero.example.com}}
  - {type: Allow, to: {dnsName: one.example.com}}
  - {type: Allow, to: {dnsName: chain.example.com}}
  - {type: Allow, to: {dnsName: many.example.com}}
  - {type: Deny, to: {cidrSelector: 0.0.0.0/0}}
`

// dnsZone is what the resolver knows.
type dnsZone struct {
	t     *testing.T
	file  string
	names map[string][]string // records by what they are about
}

// set replaces the records about something, for the next question.
func (z *dnsZone) set(about string, records ...string) {
	z.t.Helper()
	z.names[about] = records
	var text strings.Builder
	for _, lines := range z.names {
		text.WriteString(strings.Join(lines, "\n") + "\n")
	}
	next := z.file + ".next"
	if err := os.WriteFile(next, []byte(text.String()), 0o600); err != nil {
		z.t.Fatal(err)
	}
	if err := os.Rename(next, z.file); err != nil { // so that nobody reads half of it
		z.t.Fatal(err)
	}
}

// questions are how often the resolver was asked, by name.
type questions map[string]struct{ UDP, TCP int }

// end stops the resolver.
func (z *dnsZone) end(server *background) questions {
	z.t.Helper()
	var times questions
	if err := json.Unmarshal(server.end(z.t), &times); err != nil {
		z.t.Fatal(err)
	}
	return times
}

// at is a TCP connection to an address of the world outside.
func at(address string) string { return "tcp " + address + ":" + port + " 100" }

// fromBoth is what pods of both nodes must hear alike.
func fromBoth(ways map[string]bool) map[way]bool {
	all := map[way]bool{}
	for check, passes := range ways {
		all[way{"red/a", check}], all[way{"red/b", check}] = passes, passes
	}
	return all
}

func (c *cluster) reachesFromBoth(check string) func() bool {
	return func() bool { return c.check(inPod("red/a"), check)[0].OK && c.check(inPod("red/b"), check)[0].OK }
}

// TestEgressFirewallsFollowNames has a real DNS server outside, with all that may be odd about
// one.
func TestEgressFirewallsFollowNames(t *testing.T) {
	c := up(t, namesTopology)
	c.exec(onOutside("world"), "ip", "route", "add", "local", "198.18.0.0/15", "dev", "lo")
	for _, node := range []string{"node1", "node2"} {
		c.exec(onNode(node), "ip", "route", "add", "198.18.0.0/15", "via", "192.168.108.2")
	}
	c.start(onOutside("world"), "serve", port, "world")
	z := &dnsZone{t: t, file: filepath.Join(t.TempDir(), "zone"), names: map[string][]string{}}
	z.set("zero", "zero.example.com. 0 A 198.18.0.1")
	z.set("one", "one.example.com. 1 A 198.18.0.2")
	z.set("chain", "chain.example.com. 300 CNAME a.example.net.", "a.example.net. 300 CNAME b.example.org.",
		"b.example.org. 300 CNAME c.example.com.", "c.example.com. 300 A 198.18.0.3")
	var many []string
	for i := range 500 {
		many = append(many, fmt.Sprintf("many.example.com. 300 A 198.18.%d.%d", 1+i/250, 1+i%250))
	}
	z.set("many", many...)

	shown := func() string { return c.ctl("get", "egressfirewalls", "-n", "red") }
	t.Run("while the server is down from the start, nothing passes", func(t *testing.T) {
		c.wantWays(t, fromBoth(map[string]bool{at("198.18.0.1"): false, at("198.18.0.2"): false}))
		if out := shown(); strings.Count(out, "unresolved: ask 192.168.108.1:5353: ") != 4 {
			t.Errorf("it is shown as\n%s", out)
		}
	})
	began := time.Now()
	server := c.start(onOutside("resolver"), "zone", "5353", z.file)
	t.Run("it is asked again when it comes", func(t *testing.T) {
		// The pauses between tries grow to 30 s, and each name has its own.
		c.eventuallyWithin(t, 45*time.Second, "all names are resolved", func() bool {
			for _, first := range []string{"198.18.0.1", "198.18.0.2", "198.18.0.3", "198.18.2.250"} {
				if !c.reachesFromBoth(at(first))() {
					return false
				}
			}
			return true
		})
		c.wantWays(t, fromBoth(map[string]bool{at("198.18.0.9"): false}))
	})
	t.Run("a chain of aliases", func(t *testing.T) {
		c.wantWays(t, fromBoth(map[string]bool{at("198.18.0.3"): true, at("198.18.0.4"): false}))
	})
	t.Run("500 addresses", func(t *testing.T) {
		c.wantWays(t, fromBoth(map[string]bool{at("198.18.1.1"): true, at("198.18.2.1"): true, at("198.18.2.250"): true, at("198.18.2.251"): false}))
		if out := shown(); !strings.Contains(out, " and 497 more") {
			t.Errorf("it is shown as\n%s", out)
		}
	})
	t.Run("TTL 0 and TTL 1", func(t *testing.T) {
		z.set("zero", "zero.example.com. 0 A 198.18.0.11")
		z.set("one", "one.example.com. 1 A 198.18.0.12")
		c.eventually(t, "the new addresses pass", func() bool { return c.reachesFromBoth(at("198.18.0.11"))() && c.reachesFromBoth(at("198.18.0.12"))() })
		// What they were before stays for a while, as it stays in pods' caches.
		c.wantWays(t, fromBoth(map[string]bool{at("198.18.0.1"): true, at("198.18.0.2"): true}))
	})
	t.Run("a name that comes to exist", func(t *testing.T) {
		c.firewall(t, "- {namespace: red, name: another, egress: [{type: Allow, to: {dnsName: late.example.com}}]}\n")
		if out := shown(); !strings.Contains(out, "unresolved: the name has no IPv4 address") {
			t.Errorf("it is shown as\n%s", out)
		}
		c.wantWays(t, fromBoth(map[string]bool{at("198.18.0.20"): false}))
		z.set("late", "late.example.com. 300 A 198.18.0.20")
		c.eventually(t, "it passes", c.reachesFromBoth(at("198.18.0.20")))
	})
	t.Run("the server goes", func(t *testing.T) {
		times := z.end(server)
		if n := times["many.example.com"]; n.TCP == 0 || n.TCP > n.UDP {
			t.Errorf("500 addresses were asked for %+v times: not once by UDP and, as that was cut off, by TCP", n)
		}
		if n, most := times["zero.example.com"].UDP, int(time.Since(began)/(5*time.Second))+2; n < 2 || n > most {
			t.Errorf("a TTL of 0 led to %d questions, want 2 to %d", n, most)
		}
		c.eventually(t, "it is noticed", func() bool { return strings.Count(shown(), " stale: ask 192.168.108.1:5353: ") >= 2 })
		c.wantWays(t, fromBoth(map[string]bool{at("198.18.0.11"): true, at("198.18.0.12"): true, at("198.18.0.3"): true, at("198.18.0.20"): true, at("198.18.0.9"): false}))
	})
	t.Run("1,000 names", func(t *testing.T) {
		var records []string
		rules := "- namespace: blue\n  egress:\n"
		for i := range 1000 {
			name := fmt.Sprintf("w%d.example.com", i)
			records = append(records, fmt.Sprintf("%s. 300 A 198.18.%d.%d", name, 10+i/250, 1+i%250))
			rules += "  - {type: Allow, to: {dnsName: " + name + "}}\n"
		}
		z.set("thousand", records...)
		server := c.start(onOutside("resolver"), "zone", "5353", z.file)
		began := time.Now()
		c.firewall(t, rules+"  - {type: Deny, to: {cidrSelector: 0.0.0.0/0}}\n")
		t.Logf("in force after %v", time.Since(began).Round(time.Millisecond))
		c.wantWays(t, map[way]bool{{"blue/a", at("198.18.10.1")}: true, {"blue/a", at("198.18.13.250")}: true, {"blue/a", at("198.18.13.251")}: false, {"red/a", at("198.18.10.1")}: false})
		names := 0
		for name, n := range z.end(server) {
			if strings.HasPrefix(name, "w") {
				names++
				if n.UDP != 1 {
					t.Errorf("%s was asked for %d times", name, n.UDP)
				}
			}
		}
		if names != 1000 {
			t.Errorf("%d names were asked for", names)
		}
	})
}
