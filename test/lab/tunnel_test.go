package lab

import (
	"fmt"
	"testing"
)

func TestEveryTunnelTypeCarriesFullPackets(t *testing.T) {
	for _, tunnel := range []struct {
		text     string
		overhead int // bytes over IPv4
	}{
		{"{type: vxlan, port: 8472}", 50}, {"{type: geneve}", 50}, {"{type: gre}", 42},
	} {
		t.Run(tunnel.text, func(t *testing.T) {
			c := up(t, fmt.Sprintf(`
tunnel: %s
nodes: [{name: node1}, {name: node2}]
namespaces: [{name: red}, {name: blue}]
pods:
- {namespace: red, name: a, node: node1}
- {namespace: red, name: b, node: node2}
- {namespace: blue, name: c, node: node2}
`, tunnel.text))
			for _, p := range []string{"red/b", "blue/c"} {
				c.start(inPod(p), "serve", port, p)
			}
			full := 1500 - tunnel.overhead - ipAndL4Headers
			friend, stranger := c.podIP("red/b"), c.podIP("blue/c")
			wantAll(t, inPod("red/a"), c.check(inPod("red/a"),
				fmt.Sprintf("icmp %s %d", friend, full), fmt.Sprintf("udp %s:%s %d", friend, port, full-40), fmt.Sprintf("tcp %s:%s 500000", friend, port)))
			results := c.check(inPod("red/a"), fmt.Sprintf("icmp %s %d", friend, full+1),
				fmt.Sprintf("icmp %s 56", stranger), fmt.Sprintf("udp %s:%s 100", stranger, port), fmt.Sprintf("tcp %s:%s 100", stranger, port))
			wantNone(t, results)
		})
	}
}
