package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// traffic is what `probe flow` prints.
type traffic struct {
	UDPSent, UDPReturned       int64
	StreamSent, StreamReturned int64
	StreamError                string
	Connected, Refused         int64
	LastError                  string
	LongestGapMicros           int64
	// When the last datagram and the last record came back, by the clock.
	UDPLastMicros, StreamLastMicros int64
}

// readTraffic ends a `probe flow`, and answers what it saw.
func readTraffic(t *testing.T, b *background) (seen traffic) {
	t.Helper()
	if err := json.Unmarshal(b.end(t), &seen); err != nil {
		t.Fatal(err)
	}
	return seen
}

const oneTenantOnTwoNodes = `
mode: multitenant
clusterNetworks: [{cidr: 10.128.0.0/14, hostSubnetLength: 9}]
serviceNetwork: 172.30.0.0/16
nodes: [{name: node1}, {name: node2}]
namespaces: [{name: red}]
pods:
- {namespace: red, name: client, node: node1}
- {namespace: red, name: near, node: node1}
- {namespace: red, name: far, node: node2}
`

// TestKillingTheAgentUnderTrafficLosesNothingAndTouchesNoFlow kills and starts
// the agent while packets flow. A loaded machine loses packets by itself: when
// ovs-vswitchd does not get the processor for long enough, its sockets' queues
// overflow. So each try is beside an equally long time in which nothing is
// killed, and counts against the agent only if that one lost nothing. Broken or
// refused connections, and changed flows, count always.
func TestKillingTheAgentUnderTrafficLosesNothingAndTouchesNoFlow(t *testing.T) {
	c := up(t, oneTenantOnTwoNodes)
	for _, target := range []string{"red/near", "red/far"} {
		c.start(inPod(target), "reply", port)
	}
	for try, against := 0, 0; ; try++ {
		if try == 8 {
			t.Fatal("this machine was never quiet enough to tell")
		}
		watch := c.watchFlows("node1")
		quiet := c.trafficWhile(t, func() { time.Sleep(3 * time.Second) })
		killed := c.trafficWhile(t, func() {
			for range 4 {
				c.run("lab", "kill", "--name", c.name, "node1", "nodeagent", "--signal", "KILL")
				// The time without an agent is part of what is tested.
				time.Sleep(300 * time.Millisecond)
				c.run("lab", "start", "--name", c.name, "node1", "nodeagent")
			}
		})
		if events := watch.stop(); events != "" {
			t.Fatalf("flows were changed while the agent was killed and started:\n%s", events)
		}
		t.Logf("lost: %d datagrams while the agent was killed, %d beside", killed, quiet)
		if killed == 0 {
			break
		}
		if quiet == 0 {
			against++
		}
		if against == 2 {
			t.Fatalf("packets are lost when the agent is killed, and only then")
		}
	}

	// The watch is worth something only if it sees changes at all.
	watch := c.watchFlows("node1")
	c.run("lab", "pod", "add", "--name", c.name, "red/late", "--node", "node1")
	if events := watch.stop(); !strings.Contains(events, "ADDED") {
		t.Errorf("the watch did not see the flows of a new pod:\n%s", events)
	}
}

// trafficWhile keeps traffic going from red/client to both others while
// something happens, and answers how many datagrams were lost. Streams and new
// connections must not suffer at all.
func (c *cluster) trafficWhile(t *testing.T, happens func()) (lost int64) {
	t.Helper()
	seen := c.trafficOn(t, []trip{{inPod("red/client"), c.podIP("red/near") + ":" + port}, {inPod("red/client"), c.podIP("red/far") + ":" + port}}, pace(), happens)
	for _, s := range seen {
		if s.UDPSent < 500 || s.Connected < 100 {
			t.Errorf("there was hardly any traffic: %+v", s)
		}
	}
	return lostOf(seen)
}

// lostOf is how many datagrams were lost.
func lostOf(seen []traffic) (lost int64) {
	for _, s := range seen {
		lost += s.UDPSent - s.UDPReturned
	}
	return lost
}

// trip is where traffic comes from, and the address and port of its other end.
type trip struct {
	from place
	to   string
}

func (t trip) String() string { return t.from.String() + " to " + t.to }

// trafficOn keeps traffic going on several ways while something happens, and answers what
// was seen of it. Streams and new connections must not suffer at all.
func (c *cluster) trafficOn(t *testing.T, ways []trip, pace string, happens func()) []traffic {
	t.Helper()
	var flows []*background
	for _, w := range ways {
		flows = append(flows, c.start(w.from, "flow", w.to, pace))
	}
	happens()
	all := make([]traffic, len(flows))
	for i, f := range flows {
		seen := &all[i]
		if err := json.Unmarshal(f.end(t), seen); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %+v", ways[i], *seen)
		if seen.StreamError != "" || seen.StreamReturned != seen.StreamSent {
			t.Errorf("%s: %d of %d records came back on the TCP connection (%s)", ways[i], seen.StreamReturned, seen.StreamSent, seen.StreamError)
		}
		if seen.Refused != 0 {
			t.Errorf("%s: %d new connections, %d refused (%s)", ways[i], seen.Connected, seen.Refused, seen.LastError)
		}
	}
	return all
}

// flowWatch is Open vSwitch's own report of flow changes on a bridge.
type flowWatch struct {
	t    *testing.T
	c    *cluster
	node string
	cmd  *exec.Cmd

	mu     sync.Mutex
	events bytes.Buffer
	marks  chan struct{}
}

// markCookie marks a flow that the watch itself adds, so that it knows that it
// has seen everything that came before.
const markCookie = "0x77a7c4"

// watchFlows subscribes to flow changes of br0 on a node; initial flows are not reported.
func (c *cluster) watchFlows(node string) *flowWatch {
	c.t.Helper()
	w := &flowWatch{t: c.t, c: c, node: node, marks: make(chan struct{}, 8)}
	w.cmd = c.command(onNode(node), "ovs-ofctl", "monitor", "br0", "watch:!initial")
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	w.cmd.Stderr = w.cmd.Stdout
	if err := w.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { w.cmd.Process.Kill(); w.cmd.Wait() })
	go w.read(out)
	// It listens when it sees a mark; a mark made too early is made again.
	for deadline := time.Now().Add(10 * time.Second); ; {
		w.mark()
		select {
		case <-w.marks:
			return w
		case <-time.After(200 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("ovs-ofctl monitor on %s sees nothing:\n%s", node, &w.events)
		}
	}
}

// mark adds and removes a flow in a table that nothing uses.
func (w *flowWatch) mark() {
	w.c.exec(onNode(w.node), "sh", "-c", fmt.Sprintf(
		"ovs-ofctl -O OpenFlow13 add-flow br0 cookie=%s,table=252,priority=1,actions=drop && ovs-ofctl -O OpenFlow13 del-flows br0 cookie=%s/-1,table=252", markCookie, markCookie))
}

func (w *flowWatch) read(out io.Reader) {
	buf := make([]byte, 64<<10)
	var pending string
	for {
		n, err := out.Read(buf)
		pending += string(buf[:n])
		for {
			line, rest, whole := strings.Cut(pending, "\n")
			if !whole {
				break
			}
			pending = rest
			if !strings.Contains(line, "event=") {
				continue
			}
			if strings.Contains(line, markCookie) {
				if strings.Contains(line, "DELETED") {
					select {
					case w.marks <- struct{}{}:
					default:
					}
				}
				continue
			}
			w.mu.Lock()
			fmt.Fprintln(&w.events, strings.TrimSpace(line))
			w.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// stop answers every change of a flow since the watch began.
func (w *flowWatch) stop() string {
	w.t.Helper()
	for len(w.marks) > 0 {
		<-w.marks
	}
	w.mark()
	select {
	case <-w.marks:
	case <-time.After(10 * time.Second):
		w.t.Fatal("ovs-ofctl monitor stopped reporting")
	}
	w.cmd.Process.Kill()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.events.String()
}
