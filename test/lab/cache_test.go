package lab

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// wantCached watches one connection. Its first packets
// make ovs-vswitchd decide; after that the datapath forwards by itself, and nothing
// but other people's packets is handed up.
func (c *cluster) wantCached(t *testing.T) {
	for _, target := range []string{"red/near", "red/far"} {
		t.Run(target, func(t *testing.T) {
			c := c.in(t)
			c.start(inPod(target), "reply", port)
			line := fmt.Sprintf("table=20,in_port=%d,ip", c.ofports("node1")["red/client"])
			before := c.flowPackets(t, "node1", line)
			stream := c.start(inPod("red/client"), "stream", c.podIP(target)+":"+port, pace())
			c.wantQuietWindow(t, "node1", target)
			seen := readTraffic(t, stream)
			t.Logf("%+v", seen)
			if seen.StreamError != "" || seen.StreamReturned != seen.StreamSent || seen.StreamSent < window/10 {
				t.Errorf("the connection did not carry what it should: %+v", seen)
			}
			// The datapath's counts arrive at the flow of the pod, which is what an
			// operator looks at.
			c.eventually(t, "the pod's flow has counted the connection's packets", func() bool {
				return int64(c.flowPackets(t, "node1", line)-before) >= seen.StreamSent/2 // two records may share a packet
			})
		})
	}
}

// window is how many times a packet has to pass a datapath without an upcall; those of
// the connection pass more than once, and others' count too.
const window = 1000

// wantQuietWindow wants that many packets to be forwarded with no upcall among them. A
// switch has other packets too, such as ARP, and may meet one: so it gets some tries.
func (c *cluster) wantQuietWindow(t *testing.T, node, target string) {
	t.Helper()
	var tries []string
	for range 5 {
		start := c.lookups(t, node)
		now := start
		for deadline := time.Now().Add(time.Minute); now.hit-start.hit < window; now = c.lookups(t, node) {
			if time.Now().After(deadline) {
				t.Fatalf("a minute later only %d packets have passed", now.hit-start.hit)
			}
			time.Sleep(100 * time.Millisecond)
		}
		tries = append(tries, fmt.Sprintf("%d hits, %d upcalls", now.hit-start.hit, now.missed-start.missed))
		if now.missed == start.missed && now.lost == start.lost {
			t.Logf("figure: to %s while one connection lasts: %s", target, strings.Join(tries, "; then "))
			return
		}
	}
	t.Errorf("packets of a long connection were handed up: %v\n%s", tries, c.exec(onNode(node), "ovs-appctl", "dpctl/dump-flows"))
}

var stampCached = regexp.MustCompile(`skb_mark\(0/0x[0-9a-f]+\)`)

// wantStamped changes flows between two looks at what the switch has cached. In userspace
// all that is cached of pods' packets must bear a stamp, and after the change another one.
func (c *cluster) wantStamped(t *testing.T) {
	cached := func() string {
		wantAll(t, inPod("red/client"), c.check(inPod("red/client"), "icmp "+c.podIP("red/near")+" 56", "icmp "+c.podIP("red/far")+" 56"))
		c.exec(onNode("node1"), "sh", "-c", "ovs-appctl revalidator/wait && ovs-appctl revalidator/wait")
		return c.exec(onNode("node1"), "ovs-appctl", "dpctl/dump-flows")
	}
	before := stampCached.FindString(cached())
	c.run("lab", "pod", "add", "--name", c.name, "red/stamp", "--node", "node1")
	defer c.run("lab", "pod", "delete", "--name", c.name, "red/stamp")
	after := cached()
	stamp := stampCached.FindString(after)
	if has := stamp != ""; has != userspace() {
		t.Fatalf("what is cached has a stamp: %t, want %t:\n%s", has, userspace(), after)
	}
	if !userspace() {
		return
	}
	if stamp == before {
		t.Errorf("a change has left the stamp: %s", stamp)
	}
	for line := range strings.Lines(after) {
		if strings.Contains(line, "in_port(veth") && !strings.Contains(line, stamp) {
			t.Errorf("this is older than the stamp %s: %s", stamp, line)
		}
	}
}

// lookedUp is what a datapath counts: packets that a flow of its own was found for,
// that were handed up, and that were lost on the way up.
type lookedUp struct{ hit, missed, lost int }

var lookupsLine = regexp.MustCompile(`lookups: hit:(\d+) missed:(\d+) lost:(\d+)`)

func (c *cluster) lookups(t *testing.T, node string) lookedUp {
	t.Helper()
	out := c.exec(onNode(node), "ovs-appctl", "dpctl/show")
	match := lookupsLine.FindStringSubmatch(out)
	if match == nil {
		t.Fatalf("no lookups in:\n%s", out)
	}
	var numbers [3]int
	for i := range numbers {
		numbers[i], _ = strconv.Atoi(match[i+1])
	}
	return lookedUp{numbers[0], numbers[1], numbers[2]}
}

var packetsField = regexp.MustCompile(`n_packets=(\d+)`)

// flowPackets adds up what the matching OpenFlow flows have counted.
func (c *cluster) flowPackets(t *testing.T, node, match string) int {
	t.Helper()
	sum := 0
	out := c.exec(onNode(node), "ovs-ofctl", "-O", "OpenFlow13", "dump-flows", "br0", match)
	for _, found := range packetsField.FindAllStringSubmatch(out, -1) {
		n, err := strconv.Atoi(found[1])
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}
