package lab

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// rate is how many new connections a second a service has while it is changed.
const rate = 200

// TestServicesChangeUnderLoad changes what is behind services while they are used.
func TestServicesChangeUnderLoad(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cluster) {
		for i := range backends {
			name := fmt.Sprintf("red/b%d", i)
			c.run("lab", "pod", "add", "--name", c.name, name, "--node", fmt.Sprintf("node%d", i%2+1))
			c.serveAll("8080", name)
		}
		t.Run("endpoints come and go: no connection fails", c.wantNoneFails)
		t.Run("a UDP conversation moves on when its backend goes", c.wantConversationMoves)
		t.Run("a terminating endpoint serves while it is all there is", c.wantTerminatingServes)
		t.Run("the agent restarts, and the engine is another one", c.wantEngineSwitch)
	})
}

// backends is how many pods stand ready to be endpoints by hand.
const backends = 4

// backend is the endpoint of one of them, in a state if one is given.
func (c *cluster) backend(i int, conditions ...string) string {
	return atNode(c.podIP(fmt.Sprintf("red/b%d", i)), fmt.Sprintf("node%d", i%2+1), conditions...)
}

// loads starts rate connections a second in all, from a pod on each node, from a
// node and from outside. The answer ends them and wants that none failed, and that
// none took longer than slowest.
func (c *cluster) loads(t *testing.T, slowest time.Duration) (end func(t *testing.T) map[string]int) {
	t.Helper()
	from := map[place]string{
		inPod("red/client"): "172.30.0.20:80", inPod("red/far"): "172.30.0.20:80",
		onNode("node1"): "172.30.0.20:80", onOutside("outside"): c.nodeIP("node2") + ":30090",
	}
	running := map[place]*background{}
	for at, addr := range from {
		running[at] = c.start(at, "load", "tcp", addr, "rate", fmt.Sprint(rate/len(from)))
	}
	return func(t *testing.T) map[string]int {
		t.Helper()
		servers, total := map[string]int{}, 0
		for at, b := range running {
			got := readShares(t, b.end(t))
			if len(got.Errors) > 0 {
				t.Errorf("%s: connections failed: %v, answered: %v", at, got.Errors, got.by())
			}
			if took := time.Duration(got.Slowest) * time.Microsecond; took > slowest {
				t.Errorf("%s: the slowest connection took %s", at, took)
			}
			for server, n := range got.by() {
				servers[server], total = servers[server]+n, total+n
			}
		}
		t.Logf("%d connections, answered by %v", total, servers)
		return servers
	}
}

const (
	// unrepeated is less than the second after which TCP repeats a packet that nobody
	// answers: none went astray.
	unrepeated = 900 * time.Millisecond
	// repeatedOnce allows one packet to be lost: a userspace switch may lose one while
	// an agent starts and the processors are busy. A second would be no chance.
	repeatedOnce = 1900 * time.Millisecond
)

// wantNoneFails replaces the endpoints again and again, by hand and by pods that
// come and go. Who is no endpoint any more goes on serving for a moment, as a
// pod does that is told to end.
func (c *cluster) wantNoneFails(t *testing.T) {
	c.apply(t, slice("red/hand", 8080, c.backend(0)))
	end := c.loads(t, unrepeated)
	for i := range 12 {
		var list []string
		for j := range 1 + i%3 {
			list = append(list, c.backend((i+j)%backends))
		}
		c.apply(t, slice("red/hand", 8080, list...))
		pause(300 * time.Millisecond)
	}
	servers := end(t)
	for i := range backends {
		if servers[fmt.Sprintf("b%d", i)] == 0 {
			t.Errorf("b%d was an endpoint, and answered nobody", i)
		}
	}
}

// pause lets traffic go on for a while: there is nothing to wait for.
func pause(d time.Duration) { <-time.After(d) }

// wantConversationMoves wants a client whose backend goes to be heard by another
// one at once: the kernel would send its packets to the old one for as long as it
// talks. Who asks a service that has none left is told so.
func (c *cluster) wantConversationMoves(t *testing.T) {
	c.apply(t, slice("red/hand", 8080, c.backend(0)))
	clients := map[place]*background{}
	for at, addr := range map[place]string{
		inPod("red/client"): "172.30.0.20:80", inPod("red/far"): "172.30.0.20:80",
		onNode("node1"): "172.30.0.20:80", onOutside("outside"): c.nodeIP("node1") + ":30090",
	} {
		clients[at] = c.start(at, "talk", addr, "20ms")
	}
	for _, i := range []int{1, 2} {
		pause(300 * time.Millisecond)
		c.apply(t, slice("red/hand", 8080, c.backend(i)))
	}
	pause(300 * time.Millisecond)
	c.apply(t, slice("red/hand", 8080))
	pause(300 * time.Millisecond)
	c.apply(t, slice("red/hand", 8080, c.backend(3)))
	pause(time.Second)
	for at, b := range clients {
		var turns []struct {
			Server  string `json:"server"`
			Packets int    `json:"packets"`
		}
		if err := json.Unmarshal(b.end(t), &turns); err != nil {
			t.Fatal(err)
		}
		// One or two packets may be under way to a backend that goes.
		var order []string
		for _, turn := range turns {
			if turn.Server != "" || turn.Packets > 2 {
				order = append(order, turn.Server)
			}
		}
		if order = slices.Compact(order); !slices.Equal(order, []string{"b0", "b1", "b2", "", "b3"}) {
			t.Errorf("%s was answered by %v", at, turns)
		}
	}
}

// wantTerminatingServes wants KEP-1669: endpoints that terminate get new
// connections only while there is no other.
func (c *cluster) wantTerminatingServes(t *testing.T) {
	service, client := "172.30.0.20:80", inPod("red/client")
	from := c.podIP("red/client")
	for _, step := range []struct {
		endpoints []string
		want      []string
	}{
		{[]string{c.backend(0), c.backend(1)}, []string{"b0 " + from, "b1 " + from}},
		{[]string{c.backend(0, terminating), c.backend(1)}, []string{"b1 " + from}},
		{[]string{c.backend(0, terminating), c.backend(1, terminating)}, []string{"b0 " + from, "b1 " + from}},
		{[]string{c.backend(0, terminating), c.backend(1, "ready: false, serving: false, terminating: true")}, []string{"b0 " + from}},
		{[]string{c.backend(0, terminating), c.backend(1, "ready: false")}, []string{"b0 " + from}},
		{[]string{c.backend(0, terminating), c.backend(2)}, []string{"b2 " + from}},
	} {
		c.apply(t, slice("red/hand", 8080, step.endpoints...))
		both(func(protocol string) { c.wantAnswers(t, client, protocol, service, step.want...) })
	}
	c.apply(t, slice("red/hand", 8080, c.backend(0, "ready: false")))
	c.wantUnanswered(t, client, refused, service)
}

// wantEngineSwitch wants nothing to be cut when an agent is killed and comes back, nor
// when it comes back with another engine: not a connection that is open, not one
// that is made.
func (c *cluster) wantEngineSwitch(t *testing.T) {
	c.apply(t, slice("red/hand", 8080, c.backend(0), c.backend(1), c.backend(2)))
	c.start(inPod("red/web2"), "reply", "7070")
	c.apply(t, "services:\n- {namespace: red, name: echo, clusterIP: 172.30.0.21, selector: {only: node2}, "+
		"ports: [{name: tcp, port: 70, targetPort: 7070}, {name: udp, port: 70, targetPort: 7070, protocol: UDP}]}\n")
	c.settled(t, "red/echo", 1)
	stream := c.start(inPod("red/client"), "flow", "172.30.0.21:70", "2ms")
	end := c.loads(t, repeatedOnce)
	watch := c.watchFlows("node1")
	c.run("lab", "kill", "--name", c.name, "node1", "nodeagent", "--signal", "KILL")
	pause(300 * time.Millisecond)
	c.run("lab", "start", "--name", c.name, "node1", "nodeagent")
	first := c.engineOf("node1")
	for _, engine := range []string{other(first), first} {
		c.setEngine(t, "node1", engine)
		c.eventually(t, "the rules of node1 are those of "+engine+" alone", func() bool { return c.engineOf("node1") == engine })
		c.wantNftPrints(t, "node1", "damask_firewall")
	}
	end(t)
	if events := watch.stop(); events != "" {
		t.Errorf("flows of node1 were changed:\n%s", events)
	}
	seen := readTraffic(t, stream)
	if seen.StreamError != "" || seen.StreamReturned != seen.StreamSent || seen.StreamSent == 0 || seen.Refused != 0 {
		t.Errorf("the open connection suffered: %+v", seen)
	}
}

func other(engine string) string {
	if engine == engines[0] {
		return engines[1]
	}
	return engines[0]
}

// engineOf tells whose rules a node has; "iptables nftables" when it has both.
func (c *cluster) engineOf(node string) string {
	c.t.Helper()
	var found []string
	if strings.Contains(c.exec(onNode(node), "iptables", "-t", "nat", "-S"), "KUBE-SVC-") {
		found = append(found, "iptables")
	}
	if strings.Contains(c.exec(onNode(node), "nft", "list", "tables"), "damask_proxy") {
		found = append(found, "nftables")
	}
	return strings.Join(found, " ")
}

// wantNftPrints wants nft to list all rules of a node, among them those of tables, as whoever
// looks for a fault does.
func (c *cluster) wantNftPrints(t *testing.T, node string, tables ...string) {
	t.Helper()
	printed, err := c.command(onNode(node), "nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Errorf("nft does not list the rules of %s: %v\n%.2000s", node, err, printed)
	}
	for _, table := range tables {
		if !strings.Contains(string(printed), table+" {") {
			t.Errorf("the rules of %s have no table %s:\n%s", node, table, printed)
		}
	}
}
