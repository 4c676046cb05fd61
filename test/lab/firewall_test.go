package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Red and blue have firewalls of their own and will be joined; green leaves by an egress
// IP of node2, and so does gold, without a firewall; free has neither. There are two hosts
// outside. Service ext leads to one of them, two to both, api to a node.
const firewallTopology = `
serviceEngine: nftables
nodes: [{name: node1}, {name: node2, ip: 192.168.108.12, egressIPs: [192.168.108.200, 192.168.108.201]}]
outside: [{name: outside, ip: 192.168.108.1}, {name: other, ip: 192.168.108.2}]
dnsServers: ["192.168.108.1:5353"]
namespaces: [{name: red}, {name: blue}, {name: green, egressIPs: [192.168.108.200]}, {name: gold, egressIPs: [192.168.108.201]}, {name: free}]
pods:
- {namespace: red, name: a, node: node1}
- {namespace: red, name: b, node: node2}
- {namespace: blue, name: a, node: node1}
- {namespace: green, name: a, node: node1}
- {namespace: green, name: b, node: node2}
- {namespace: gold, name: a, node: node1}
- {namespace: gold, name: b, node: node2}
- {namespace: free, name: a, node: node1}
services:
- {namespace: default, name: api, clusterIP: 172.30.0.78, ports: [{port: 80}]}
- {namespace: default, name: two, clusterIP: 172.30.0.79, ports: [{port: 80}]}
- {namespace: default, name: ext, clusterIP: 172.30.0.77, type: NodePort, ports: [{port: 80, nodePort: 30077}]}
- {namespace: red, name: out, clusterIP: 172.30.0.80, type: NodePort, ports: [{port: 80, nodePort: 30080}]}
- {namespace: blue, name: out, clusterIP: 172.30.0.81, type: NodePort, ports: [{port: 80, nodePort: 30081}]}
endpointSlices:
- {namespace: red, name: out-1, serviceName: out, ports: [{port: 8080}], endpoints: [{addresses: [192.168.108.2]}]}
- {namespace: blue, name: out-1, serviceName: out, ports: [{port: 8080}], endpoints: [{addresses: [192.168.108.2]}]}
- {namespace: default, name: api-1, serviceName: api, ports: [{port: 8080}], endpoints: [{addresses: [192.168.108.12]}]}
- {namespace: default, name: two-1, serviceName: two, ports: [{port: 8080}], endpoints: [{addresses: [192.168.108.1]}, {addresses: [192.168.108.2]}]}
- {namespace: default, name: ext-1, serviceName: ext, ports: [{port: 8080}], endpoints: [{addresses: [192.168.108.2]}]}
egressFirewalls:
- namespace: red
  egress:
  - {type: Allow, to: {cidrSelector: 192.168.108.1/32}, ports: [{port: 8080}]}
  - {type: Deny, to: {cidrSelector: 0.0.0.0/0}}
- namespace: blue
  egress: [{type: Deny, to: {cidrSelector: 192.168.108.1/32}}]
- namespace: green
  egress: [{type: Deny, to: {cidrSelector: 192.168.108.2/32}}]
`

// way is a packet to an outside host, as probe check writes it.
type way struct{ pod, check string }

// wantWays asks from all pods at once: what is denied takes its time.
func (c *cluster) wantWays(t *testing.T, want map[way]bool) {
	t.Helper()
	byPod := map[string][]string{}
	for w := range want {
		byPod[w.pod] = append(byPod[w.pod], w.check)
	}
	var all sync.WaitGroup
	for pod, checks := range byPod {
		all.Go(func() {
			results, err := c.tryCheck(inPod(pod), checks...)
			if err != nil {
				t.Error(err)
			}
			for _, r := range results {
				if w := (way{pod, r.Check}); r.OK != want[w] {
					t.Errorf("%s, %s: passes: %t, want %t (%s)", pod, r.Check, r.OK, want[w], r.Error)
				} else if namespace, _, _ := strings.Cut(pod, "/"); r.OK && r.Source != "" && egressIPs[namespace] != "" && r.Source != egressIPs[namespace] && r.Check != apiService {
					t.Errorf("%s, %s: seen as %s", pod, r.Check, r.Source)
				}
			}
		})
	}
	all.Wait()
}

// egressIPs are those of namespaces, and apiService leads to a node, which sees another node.
var egressIPs = map[string]string{"green": "192.168.108.200", "gold": "192.168.108.201"}

const apiService, extService = "tcp 172.30.0.78:80 100", "tcp 172.30.0.77:80 100"

const (
	tcp1, udp1, icmp1 = "tcp 192.168.108.1:8080 100", "udp 192.168.108.1:8080 100", "icmp 192.168.108.1 56"
	tcp2, udp2, icmp2 = "tcp 192.168.108.2:8080 100", "udp 192.168.108.2:8080 100", "icmp 192.168.108.2 56"
)

// elsewhere is a node port of the node without the first pods.
func (c *cluster) elsewhere(nodePort string) string {
	return "tcp " + c.nodeIP("node2") + ":" + nodePort + " 100"
}

func (c *cluster) firewall(t *testing.T, text string, flags ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "firewall.yaml")
	if err := os.WriteFile(file, []byte("egressFirewalls:\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.ctl(append([]string{"egressfirewall", "apply", "-f", file}, flags...)...)
}

func TestEgressFirewallsHoldForTheirNamespaceAlone(t *testing.T) {
	c := up(t, firewallTopology)
	for _, host := range []string{"outside", "other"} {
		c.start(onOutside(host), "serve", port, host)
	}
	for _, pod := range []string{"red/a", "red/b", "blue/a", "green/a", "free/a"} {
		c.start(inPod(pod), "serve", port, pod)
	}
	want := map[way]bool{
		{"red/a", tcp1}: true, {"red/a", udp1}: false, {"red/a", icmp1}: false, {"red/a", tcp2}: false, {"red/a", icmp2}: false,
		{"red/b", tcp1}: true, {"red/b", udp1}: false, {"red/b", tcp2}: false,
		{"blue/a", tcp1}: false, {"blue/a", udp1}: false, {"blue/a", icmp1}: false, {"blue/a", tcp2}: true, {"blue/a", udp2}: true, {"blue/a", icmp2}: true,
		{"green/a", tcp1}: true, {"green/a", udp1}: true, {"green/a", tcp2}: false, {"green/a", icmp2}: false,
		{"green/b", tcp1}: true, {"green/b", tcp2}: false, {"green/b", udp2}: false,
		{"gold/a", tcp1}: true, {"gold/a", tcp2}: true, {"gold/b", udp2}: true,
		{"free/a", tcp1}: true, {"free/a", tcp2}: true, {"free/a", icmp1}: true,
	}
	c.eventually(t, "green and gold have their egress IPs", func() bool {
		return c.check(inPod("green/a"), tcp1)[0].OK && c.check(inPod("gold/a"), tcp1)[0].OK
	})
	t.Run("from the start", func(t *testing.T) { c.wantWays(t, want) })
	t.Run("a node has only the rules that its own pods and egress IPs need", func(t *testing.T) {
		for node, want := range map[string]bool{"node1": true, "node2": false} {
			if has := strings.Contains(c.ctl("flows", node), "firewall blue"); has != want {
				t.Errorf("%s has rules of blue: %t, want %t", node, has, want)
			}
		}
	})
	t.Run("nft prints all rules of a node that has all there are", func(t *testing.T) {
		tables := []string{"ip damask_firewall", "ip damask_egress", "ip damask_proxy"}
		if userspace() {
			tables = append(tables, "netdev damask_quarantine")
		}
		c.wantNftPrints(t, "node2", tables...)
	})

	t.Run("joined", func(t *testing.T) {
		c.ctl("pod-network", "join-projects", "--to", "red", "blue", "free")
		c.wantWays(t, want)
		c.wantReach(t, "red/a", "blue/a")
	})
	t.Run("while VNIDs change", func(t *testing.T) { c.wantFirewallsWhileVNIDsChange(t, want) })

	t.Run("answers to connections from outside", func(t *testing.T) {
		var lines []string
		for _, pod := range []string{"red/a", "red/b", "blue/a", "green/a"} {
			lines = append(lines, fmt.Sprintf("tcp %s:%s 1000", c.podIP(pod), port), fmt.Sprintf("udp %s:%s 100", c.podIP(pod), port), fmt.Sprintf("icmp %s 56", c.podIP(pod)))
		}
		for _, host := range []string{"outside", "other"} {
			wantAll(t, onOutside(host), c.check(onOutside(host), lines...))
		}
	})

	t.Run("an agent that is killed changes no flow", func(t *testing.T) {
		before := c.flowLines("node1")
		c.run("lab", "kill", "--name", c.name, "node1", "nodeagent", "--signal", "KILL")
		c.wantWays(t, want)
		c.run("lab", "start", "--name", c.name, "node1", "nodeagent")
		c.eventually(t, "the agent is ready", func() bool { return strings.Contains(c.ctl("get", "nodes"), "node1") })
		c.ctl("audit", "node1")
		if after := c.flowLines("node1"); !slices.Equal(before, after) {
			t.Errorf("flows were\n%s\nand are\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
		c.wantWays(t, want)
	})

	t.Run("a service with an endpoint outside is no way round", func(t *testing.T) {
		nodePort := "tcp " + c.nodeIP("node1") + ":30077 100"
		c.wantWays(t, map[way]bool{
			// At another node nobody knows who has asked.
			{"red/a", c.elsewhere("30077")}: false, {"green/a", c.elsewhere("30077")}: false, {"blue/a", c.elsewhere("30077")}: true, {"free/a", c.elsewhere("30077")}: true,
			{"red/a", c.elsewhere("30080")}: false, {"blue/a", c.elsewhere("30081")}: true,
			{"red/a", "tcp " + c.gateway("node2") + ":30077 100"}: false, {"free/a", "tcp " + c.gateway("node2") + ":30077 100"}: false,
			{"red/a", extService}: false, {"red/b", extService}: false, {"green/a", extService}: false, {"red/a", nodePort}: false, {"green/a", nodePort}: false,
			{"blue/a", extService}: true, {"free/a", extService}: true, {"free/a", nodePort}: true,
		})
	})

	t.Run("of two endpoints outside one is denied", func(t *testing.T) { c.wantTheOtherEndpoint(t) })

	t.Run("nor is it one past an egress IP", func(t *testing.T) {
		c.start(onNode("node2"), "serve", port, "node2")
		nodePort := "tcp " + c.nodeIP("node1") + ":30077 100"
		c.wantWays(t, map[way]bool{
			{"gold/a", extService}: false, {"gold/b", extService}: false, {"gold/a", nodePort}: false, {"gold/a", c.elsewhere("30077")}: false, {"gold/a", tcp2}: true, {"gold/a", apiService}: true, {"free/a", apiService}: true,
			{"red/a", apiService}: false, // a node is denied as any other address, until a rule allows it
		})
		c.ctl("patch", "netnamespace", "gold", "-p", `{"egressIPs": []}`)
		for _, pod := range []string{"gold/a", "gold/b"} {
			wantAll(t, inPod(pod), c.check(inPod(pod), extService, tcp2))
		}
	})

	t.Run("what changes while an agent is away holds when it is back", c.wantChangesWithoutAgent)

	t.Run("several policies, in their order", func(t *testing.T) {
		c.firewall(t, "- {namespace: blue, name: first, egress: [{type: Allow, to: {cidrSelector: 192.168.108.0/24}, ports: [{protocol: UDP, port: 8000, endPort: 8099}]}]}\n"+
			"- {namespace: blue, order: 1, egress: [{type: Deny, to: {cidrSelector: 192.168.108.1/32}}]}\n")
		c.wantWays(t, map[way]bool{{"blue/a", udp1}: true, {"blue/a", tcp1}: false, {"blue/a", tcp2}: true})
	})

	t.Run("names", func(t *testing.T) { c.wantNames(t) })

	t.Run("none any more", func(t *testing.T) {
		c.ctl("egressfirewall", "delete", "red/default", "blue/default", "blue/first", "green/default")
		c.wantWays(t, map[way]bool{{"red/a", tcp2}: true, {"red/a", extService}: true, {"red/a", c.elsewhere("30080")}: true, {"red/a", apiService}: true, {"red/b", icmp1}: true, {"blue/a", tcp1}: true, {"green/a", tcp2}: true, {"green/b", tcp2}: true})
	})
}

// wantNames has rules with a name that moves from one host to the other.
func (c *cluster) wantNames(t *testing.T) {
	server := c.start(onOutside("outside"), "dns", "5353", "0", "www.example.com=192.168.108.1")
	c.firewall(t, "- {namespace: red, egress: [{type: Allow, to: {dnsName: www.example.com}}, {type: Deny, to: {cidrSelector: 0.0.0.0/0}}]}\n")
	c.wantWays(t, map[way]bool{{"red/a", udp1}: true, {"red/b", tcp1}: true, {"red/a", tcp2}: false, {"red/a", extService}: false})
	if out := c.ctl("get", "egressfirewalls", "-n", "red", "-o", "wide"); !strings.Contains(out, "192.168.108.1") || !strings.Contains(out, "node1,node2") {
		t.Errorf("it is shown as\n%s", out)
	}
	server.end(t)
	c.start(onOutside("outside"), "dns", "5353", "0", "www.example.com=192.168.108.2")
	c.eventually(t, "the name's other address is allowed", func() bool { return c.check(inPod("red/a"), tcp2)[0].OK })
	// What the name was before stays for a while, as it stays in pods' caches.
	c.wantWays(t, map[way]bool{{"red/a", tcp1}: true, {"red/b", tcp2}: true, {"red/a", extService}: true})
}
