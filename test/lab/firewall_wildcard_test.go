package lab

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Red may reach the names below example.com, whichever these are, and the resolver. Pods
// ask that one, or a service whose backend is a pod; egress asks the resolver alone. The
// pod red/fake answers what it likes.
const wildcardTopology = `
nodes: [{name: node1}, {name: node2}]
outside: [{name: resolver, ip: 192.168.108.1}, {name: world, ip: 192.168.108.2}]
dnsServers: ["192.168.108.1:5353"]
podDNSServers: ["192.168.108.1:5353", "172.30.0.53:53"]
namespaces: [{name: red}, {name: blue}]
pods:
- {namespace: default, name: dns, node: node2, labels: {app: dns}}
- {namespace: red, name: a, node: node1}
- {namespace: red, name: b, node: node2}
- {namespace: red, name: fake, node: node1}
- {namespace: blue, name: a, node: node1}
services:
- {namespace: default, name: dns, clusterIP: 172.30.0.53, selector: {app: dns}, ports: [{port: 53, protocol: UDP}]}
egressFirewalls:
- namespace: red
  egress:
  - {type: Allow, to: {cidrSelector: 192.168.108.1/32}, ports: [{protocol: UDP, port: 5353}]}
  - {type: Allow, to: {dnsName: "*.example.com"}, ports: [{port: 8080}]}
  - {type: Deny, to: {cidrSelector: 0.0.0.0/0}}
`

const (
	resolverAddress = "192.168.108.1:5353"
	serviceAddress  = "172.30.0.53:53"
	visits          = 20 // Names that are visited for the first time.
)

// world is an address of the world outside; name is the one that the resolver gives it.
func world(n int) string { return fmt.Sprint("192.168.108.", 100+n) }

func tcpTo(addr string) string { return "tcp " + addr + ":8080 100" }

func TestEgressFirewallsAllowNamesThatPodsLookUp(t *testing.T) {
	c := up(t, wildcardTopology)
	var records, elsewhere []string
	for n := range visits + 10 {
		c.exec(onOutside("world"), "ip", "address", "add", world(n)+"/32", "dev", "eth0")
		records = append(records, fmt.Sprintf("h%d.example.com=%s", n, world(n)))
		elsewhere = append(elsewhere, fmt.Sprintf("h%d.example.com=%s", n, world(n+1)))
	}
	c.start(onOutside("world"), "serve", port, "world")
	c.start(onOutside("resolver"), append([]string{"dns", "5353", "0", "other.example.org=" + world(9)}, records...)...)
	c.start(inPod("default/dns"), append([]string{"dns", "53", "0"}, records...)...)
	c.start(inPod("red/fake"), append([]string{"dns", "53", "0"}, elsewhere...)...)
	ask := func(pod, server, name string) { c.exec(inPod(pod), probeBinary, "lookup", server, name) }
	opens := func(pod string, n int) {
		t.Helper()
		c.eventually(t, fmt.Sprintf("%s may reach h%d", pod, n), func() bool { return c.check(inPod(pod), tcpTo(world(n)))[0].OK })
	}
	c.wantWays(t, map[way]bool{{"red/a", tcpTo(world(0))}: false, {"red/b", tcpTo(world(0))}: false, {"blue/a", tcpTo(world(0))}: true})

	t.Run("a resolver outside", func(t *testing.T) {
		ask("red/a", resolverAddress, "h0.example.com")
		opens("red/a", 0)
		opens("red/b", 0) // On every node.
		c.wantWays(t, map[way]bool{{"red/a", tcpTo(world(1))}: false, {"red/a", "tcp " + world(0) + ":8081 100"}: false, {"red/a", "udp " + world(0) + ":8080 100"}: false})
		if out := c.ctl("get", "egressfirewalls", "-n", "red"); !strings.Contains(out, world(0)) {
			t.Errorf("it is shown as\n%s", out)
		}
	})

	t.Run("a resolver behind a service", func(t *testing.T) {
		ask("red/a", serviceAddress, "h1.example.com") // The backend is on another node,
		opens("red/a", 1)
		ask("red/b", serviceAddress, "h2.example.com") // and on the same.
		opens("red/b", 2)
	})

	t.Run("nobody else's answer opens anything", func(t *testing.T) {
		ask("red/a", c.podIP("red/fake")+":53", "h3.example.com")
		ask("red/a", resolverAddress, "other.example.org") // The resolver's, but of another zone.
		ask("blue/a", resolverAddress, "h5.example.com")   // And of a namespace that has no such rule.
		ask("red/a", resolverAddress, "h6.example.com")    // Answers are told in their order.
		opens("red/a", 6)
		want := map[way]bool{{"red/a", tcpTo(world(6))}: true}
		for _, n := range []int{3, 4, 5, 7, 9} { // The fake one had h3 at the address of h4.
			want[way{"red/a", tcpTo(world(n))}] = false
		}
		c.wantWays(t, want)
	})

	t.Run("an agent that is killed changes no flow", func(t *testing.T) {
		before, meters := c.flowLines("node1"), c.exec(onNode("node1"), "ovs-ofctl", "-O", "OpenFlow13", "dump-meters", "br0")
		c.run("lab", "kill", "--name", c.name, "node1", "nodeagent", "--signal", "KILL")
		c.wantWays(t, map[way]bool{{"red/a", tcpTo(world(0))}: true, {"red/a", tcpTo(world(3))}: false})
		c.run("lab", "start", "--name", c.name, "node1", "nodeagent")
		c.eventually(t, "the agent is ready", func() bool { return strings.Contains(c.ctl("get", "nodes"), "node1") })
		c.ctl("audit", "node1")
		if after := c.flowLines("node1"); !slices.Equal(before, after) {
			t.Errorf("flows were\n%s\nand are\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
		if after := c.exec(onNode("node1"), "ovs-ofctl", "-O", "OpenFlow13", "dump-meters", "br0"); after != meters || !strings.Contains(after, "meter=1 ") {
			t.Errorf("meters were\n%s\nand are\n%s", meters, after)
		}
		ask("red/a", resolverAddress, "h7.example.com")
		opens("red/a", 7)
	})

	t.Run("the first connection after the first answer", func(t *testing.T) {
		var took []int
		for n := 10; n < 10+visits; n++ {
			out := c.exec(inPod("red/a"), probeBinary, "visit", resolverAddress, fmt.Sprintf("h%d.example.com", n), port)
			ms, err := strconv.Atoi(strings.TrimSpace(out))
			if err != nil {
				t.Fatalf("visit printed %q", out)
			}
			took = append(took, ms)
		}
		slices.Sort(took)
		t.Logf("connected after, in ms: median %d, most %d; all: %v", took[len(took)/2], took[len(took)-1], took)
	})
}
