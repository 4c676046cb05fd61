package lab

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The parts of this test are of what differs between the two datapaths. Each runs on
// both, says what holds on this one, and fails if it worked as on the other. They share
// a lab: to start one takes most of a minute where the processor is emulated.
func TestWhatDiffersBetweenTheDatapaths(t *testing.T) {
	c := up(t, oneService)
	for _, part := range []struct {
		name string
		want func(*cluster, *testing.T)
	}{
		{"the node's address and its ports' frames are where they belong", (*cluster).wantOwnFrames},
		{"segments of a connection pass the switch whole", (*cluster).wantWholeSegments},
		{"a service's reply gets its address in the zone that the kernel has", (*cluster).wantRepliesInTheKernelsZone},
		{"a mark reaches the kernel as the datapath can", (*cluster).wantMarks},
		{"a long connection stays in the datapath's cache", (*cluster).wantCached},
		{"what is cached has the stamp of the last change", (*cluster).wantStamped},
		{"connections and port numbers survive a restart of the switch", (*cluster).wantRestartsSurvived},
		{"what the kernel has cached goes on without switch and agent", (*cluster).wantCacheAlone},
	} {
		t.Run(part.name, func(t *testing.T) { part.want(c.in(t), t) })
	}
}

// oneService is a service whose backends the test chooses.
const oneService = oneTenantOnTwoNodes + `
services:
- {namespace: red, name: web, clusterIP: 172.30.0.10, ports: [{name: tcp, port: 80, targetPort: 8080}]}
`

// wantOwnFrames looks where the node IP is, and that only the switch gets what arrives
// on its ports. A switch in userspace needs the node IP on a bridge of its own, and
// reads copies of frames: the node's kernel must be kept from answering them too.
func (c *cluster) wantOwnFrames(t *testing.T) {
	holder := ""
	for line := range strings.Lines(c.exec(onNode("node1"), "ip", "-4", "-o", "address", "show")) {
		if fields := strings.Fields(line); strings.HasPrefix(fields[3], c.nodeIP("node1")+"/") {
			holder = fields[1]
		}
	}
	if onBridge := holder == "br-phy"; holder == "" || onBridge != userspace() {
		t.Errorf("the node IP is on %q; on a bridge of its own: %t, want %t", holder, onBridge, userspace())
	}
	hidden := strings.Contains(c.exec(onNode("node1"), "nft", "list", "tables"), "table netdev ")
	if hidden != userspace() {
		t.Errorf("frames are hidden from the node's kernel: %t, want %t", hidden, userspace())
	}
	const requests = 3
	out := c.exec(inPod("red/client"), "arping", "-c", fmt.Sprint(requests), "-I", "eth0", c.gateway("node1"))
	if want := fmt.Sprintf("Received %d response", requests); !strings.Contains(out, want) {
		t.Errorf("%d questions for the gateway's MAC, and other than one answer each:\n%s", requests, out)
	}
}

// wantWholeSegments sends a lot of data through the switch.
// The kernel's datapath passes frames on whose checksums are still to be filled in, so
// TCP hands over many segments as one frame. A userspace switch must get every frame
// complete.
func (c *cluster) wantWholeSegments(t *testing.T) {
	setting := "on"
	if userspace() {
		setting = "off"
	}
	const wire = 14 // bytes of an Ethernet header
	for _, target := range []string{"red/near", "red/far"} {
		c.start(inPod(target), "serve", port, target)
		before := c.received(t, "node1", "red/client")
		wantAll(t, inPod("red/client"), c.check(inPod("red/client"), "tcp "+c.podIP(target)+":"+port+" 4000000"))
		after := c.received(t, "node1", "red/client")
		size := (after.bytes - before.bytes) / max(1, after.packets-before.packets)
		t.Logf("figure: to %s: %d bytes in %d frames, %d bytes a frame", target, after.bytes-before.bytes, after.packets-before.packets, size)
		if whole := size > podMTU+wire; whole == userspace() {
			t.Errorf("to %s: frames of %d bytes on average; larger than the MTU: %t, want %t", target, size, whole, !userspace())
		}
	}
	for at, device := range map[place]string{inPod("red/client"): "eth0", onNode("node1"): "tun0"} {
		if got := feature(c.exec(at, "ethtool", "--show-offload", device), "tx-checksumming"); got != setting {
			t.Errorf("%s: tx-checksumming of %s is %q, want %s", at, device, got, setting)
		}
	}
}

// feature answers the value of a feature in what ethtool shows.
func feature(text, name string) string {
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), name+": "); found {
			return strings.Fields(value)[0]
		}
	}
	return ""
}

// counted is what the switch has received from a port.
type counted struct{ packets, bytes int }

var receivedLine = regexp.MustCompile(`rx pkts=(\d+), bytes=(\d+)`)

func (c *cluster) received(t *testing.T, node, pod string) counted {
	t.Helper()
	out := c.exec(onNode(node), "ovs-ofctl", "-O", "OpenFlow13", "dump-ports", "br0", fmt.Sprint(c.ofports(node)[pod]))
	match := receivedLine.FindStringSubmatch(out)
	if match == nil {
		t.Fatalf("no counters in %s", out)
	}
	packets, _ := strconv.Atoi(match[1])
	bytes, _ := strconv.Atoi(match[2])
	return counted{packets, bytes}
}

// wantRepliesInTheKernelsZone looks at what the datapath
// does with replies of services. The kernel's datapath shares conntrack zone 0 with
// iptables and gives them the service's address itself; userspace has a zone of its
// own, and sends them to the kernel.
func (c *cluster) wantRepliesInTheKernelsZone(t *testing.T) {
	c.start(inPod("red/near"), "serve", port, "near")
	c.start(inPod("red/far"), "serve", port, "far")
	for pod, server := range map[string]string{"red/near": "near", "red/far": "far"} {
		c.apply(t, slice("red/web", 8080, c.podIP(pod)))
		c.settled(t, "red/web", 1)
		c.wantAnswers(t, inPod("red/client"), "tcp", "172.30.0.10:80", server+" "+c.podIP("red/client"))

		flows := c.exec(onNode("node1"), "ovs-appctl", "dpctl/dump-flows")
		entries := c.exec(onNode("node1"), "ovs-appctl", "dpctl/dump-conntrack")
		ownZone, natted := strings.Contains(flows, "zone=25"), strings.Contains(flows, "ct(nat)")
		if ownZone != userspace() || natted == userspace() {
			t.Errorf("%s: the datapath uses a zone of its own: %t, and ct(nat) in zone 0: %t:\n%s", pod, ownZone, natted, flows)
		}
		// The kernel's connection, whose reply comes from the backend, is the datapath's
		// own only where the two share a zone.
		shared := fmt.Sprintf("dst=172.30.0.10,sport=%%,dport=80),reply=(src=%s", c.podIP(pod))
		if got := matches(entries, shared); got == userspace() {
			t.Errorf("%s: the datapath knows the kernel's translation: %t, want %t:\n%s", pod, got, !userspace(), entries)
		}
	}
}

// matches tells whether text contains the pattern, in which % is any number.
func matches(text, pattern string) bool {
	return regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(pattern), "%", `\d+`)).MatchString(text)
}

// wantMarks marks packets that leave by tun0, in both
// ways. The kernel's datapath hands over the mark itself. A mark does not cross the
// tap of a userspace switch; what iptables can match there is the source MAC.
func (c *cluster) wantMarks(t *testing.T) {
	const mark, mac = "0x2a", "0a:59:00:00:00:2a"
	outside := c.outsideIP("outside")
	// The guard of egress IPs ends what has a mark that no egress IP has.
	for _, chain := range []string{"entering", "leaving"} {
		c.exec(onNode("node1"), "nft", "flush", "chain", "ip", "damask_egress", chain)
	}
	t.Cleanup(func() { c.ctl("audit", "node1") })
	flow := fmt.Sprintf("table=101,priority=500,ip,nw_src=%s,nw_dst=%s", c.podIP("red/client"), outside)
	t.Cleanup(func() { c.exec(onNode("node1"), "ovs-ofctl", "-O", "OpenFlow13", "--strict", "del-flows", "br0", flow) })
	rules := map[string][]string{
		"mark": {"-m", "mark", "--mark", mark},
		"mac":  {"-m", "mac", "--mac-source", mac},
	}
	for _, rule := range rules {
		change := func(verb string) {
			c.exec(onNode("node1"), append([]string{"iptables", "-w", "-t", "mangle", verb, "PREROUTING", "-i", "tun0"}, append(rule, "-j", "ACCEPT")...)...)
		}
		change("-A")
		t.Cleanup(func() { change("-D") })
	}
	for _, way := range []struct {
		name, action string
		arrives      bool
	}{
		{"mark", "set_field:" + mark + "->pkt_mark", !userspace()},
		{"mac", "set_field:" + mac + "->eth_src", true},
	} {
		c.exec(onNode("node1"), "ovs-ofctl", "-O", "OpenFlow13", "add-flow", "br0", flow+",actions="+way.action+",output:2")
		before := c.matched(t, way.name, mark, mac)
		wantAll(t, inPod("red/client"), c.check(inPod("red/client"), "icmp "+outside+" 56"))
		if got := c.matched(t, way.name, mark, mac) > before; got != way.arrives {
			t.Errorf("by %s: iptables saw it: %t, want %t", way.name, got, way.arrives)
		}
	}
}

// matched answers how many packets one of the two rules above has matched.
func (c *cluster) matched(t *testing.T, name, mark, mac string) int {
	t.Helper()
	sign := map[string]string{"mark": "mark match " + mark, "mac": mac}[name]
	out := c.exec(onNode("node1"), "iptables", "-w", "-t", "mangle", "-L", "PREROUTING", "-v", "-x", "-n")
	for line := range strings.Lines(out) {
		if strings.Contains(strings.ToLower(line), sign) {
			n, err := strconv.Atoi(strings.Fields(line)[0])
			if err != nil {
				t.Fatalf("no counter in %q", line)
			}
			return n
		}
	}
	t.Fatalf("no rule for %s in:\n%s", name, out)
	return 0
}
