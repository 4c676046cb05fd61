package servicepath

import (
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/nodeagent/policyflow"
)

// counted waits until the switch has counted what is wanted: it asks its caches about
// every second.
func (n *node) counted(t *testing.T, want policyflow.Counter) {
	t.Helper()
	var all []policyflow.Counter
	for end := time.Now().Add(4 * answerLimit); time.Now().Before(end); {
		dump, err := n.flows.Dump(patience(t))
		if err != nil {
			t.Fatal(err)
		}
		all = n.state.PolicyCounters(dump)
		for _, c := range all {
			if c == want {
				return
			}
		}
	}
	t.Errorf("%s counts %+v, want %+v among them", n.name, all, want)
}

func TestWhatRulesHaveTakenIsCounted(t *testing.T) {
	nodes := newClusterIn(t, "nftables", networkPolicy)
	client, server := nodes[0].addPod(t, "shop", "client", 5), nodes[1].addPod(t, "shop", "server", 6)
	server.echo(t)
	w := newWorld(nodes, client, server)
	in := isolate("in", nil, policy.Rule{Direction: policy.Ingress, Peers: block("192.0.2.0/24"), AnyPort: true},
		policy.Rule{Direction: policy.Ingress, Peers: only(client), Ports: port(echoPort)})
	w.put(in, server)
	w.tell(t)
	for range 2 {
		conn := client.begin(t, "udp4", server.at(echoPort).String())
		for range 2 {
			if !conn.alive(t, answerLimit) {
				t.Fatal("no answer")
			}
		}
	}
	nodes[1].counted(t, policyflow.Counter{Policy: in.Key, Rule: 0, Direction: policy.Ingress})
	nodes[1].counted(t, policyflow.Counter{Policy: in.Key, Rule: 1, Direction: policy.Ingress, Connections: 2, Packets: 6})
	ear := client.bind(t, client.at(7777))
	for range 3 {
		ear.send(t, server.at(backendPort).String())
	}
	nodes[1].counted(t, policyflow.Counter{Pod: "shop/server", Direction: policy.Ingress, Packets: 3})
}
