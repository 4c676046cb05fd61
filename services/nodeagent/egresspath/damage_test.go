package egresspath

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDamageByHandNeverShowsAnotherSource breaks one thing after the other under traffic,
// and has it repaired.
func TestDamageByHandNeverShowsAnotherSource(t *testing.T) {
	w := newWorld(t, 2)
	serve(t, w.outside, ":8080")
	const ip = "192.0.2.100"
	n := w.nodes[0]
	n.hosts(t, 1, hosted(ip, "red", 0))
	for _, other := range w.nodes {
		other.leave(t, "red", by("red", map[string]int{ip: 0}))
	}
	all := []*traffic{n.addPod(t, "red", 5).talk(t), w.nodes[1].addPod(t, "red", 5).talk(t)}
	for _, tr := range all {
		tr.flows(t)
	}
	device := "eth0"
	if userspace() {
		device = "br-phy"
	}
	for _, damage := range []string{
		"iptables -t nat -F OPENSHIFT-MASQUERADE", "iptables -t nat -D POSTROUTING 1",
		"iptables -t nat -D OPENSHIFT-MASQUERADE -s 10.128.0.0/14 -m mark --mark 0x82f8b2 -j SNAT --to-source " + ip,
		"iptables -t nat -D OPENSHIFT-MASQUERADE -s 10.128.0.0/14 -m mark --mark 0x82f8b2 -j SNAT --to-source " + ip + "; conntrack -F",
		"iptables -t nat -I OPENSHIFT-MASQUERADE 1 -s 10.128.0.0/14 -j MASQUERADE; conntrack -F",
		"ip address del " + ip + "/24 dev " + device,
		"nft delete element ip damask_egress open { 0x82f8b2 }",
		"nft delete element ip damask_egress pairs { 0x82f8b2 . " + ip + " }",
	} {
		for line := range strings.SplitSeq(damage, "; ") {
			n.ns.Run(t, "sh", "-e", "-c", line+" 2>/dev/null")
		}
		// New connections under the damage: each is translated as the rules are now.
		for range 3 {
			for _, tr := range all {
				tr.udp(t)
			}
		}
		_, repairs := n.plumb(t)
		if len(repairs) == 0 && !strings.HasPrefix(damage, "ip address") { // that comes back by itself
			t.Errorf("%s: nothing was repaired", damage)
		}
		for _, tr := range all {
			tr.flows(t)
		}
		from := w.seen.only(t, ip)
		t.Logf("%s: %v packets, repairs %q", damage, from, repairs)
	}
}

// udp sends a packet from a new port.
func (tr *traffic) udp(t *testing.T) {
	t.Helper()
	conn, err := tr.pod.dial(t, "udp4", outsideIP+":8080", silence)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = ask(conn, 50*time.Millisecond)
}

// TestARestartChangesNothing starts a new process beside traffic, which knows what the old
// one knew, and learns what changed meanwhile afterwards.
func TestARestartChangesNothing(t *testing.T) {
	w := newWorld(t, 2)
	serve(t, w.outside, ":8080")
	const ip, other = "192.0.2.100", "192.0.2.101"
	n := w.nodes[0]
	n.hosts(t, 5, hosted(ip, "red", 0), hosted(other, "blue", 0))
	for _, each := range w.nodes {
		each.leave(t, "red", by("red", map[string]int{ip: 0}))
	}
	near, far := n.addPod(t, "red", 5), w.nodes[1].addPod(t, "red", 5)
	all := []*traffic{near.talk(t), far.talk(t)}
	for _, tr := range all {
		tr.flows(t)
	}
	before := n.ns.Run(t, "iptables-save") + n.ns.Run(t, "ip", "-4", "address")
	n.stop()
	for _, tr := range all {
		tr.flows(t) // nobody is there, and nothing changes
	}
	n.start(t, len(w.nodes))
	n.state.AddPod(near.port)
	if _, err := n.state.SetEgress("red", 1, assignments("red", map[string]int{ip: 0})); err != nil {
		t.Fatal(err)
	}
	n.want(5, hosted(ip, "red", 0), hosted(other, "blue", 0))
	<-n.host.Begun()
	diff, repairs := n.plumb(t)
	if len(diff.Added)+len(diff.Modified)+len(diff.Deleted) > 0 || len(repairs) > 0 {
		t.Errorf("a start changes flows %v, and repairs %q", diff, repairs)
	}
	n.awaitConfirmed(t, 5)
	strip := func(text string) string { // counters and dates are no rules
		var lines []string
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ":") {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}
	if after := n.ns.Run(t, "iptables-save") + n.ns.Run(t, "ip", "-4", "address"); strip(after) != strip(before) {
		t.Errorf("a start changes\n%s\nto\n%s", before, after)
	}
	for _, tr := range all {
		tr.flows(t)
	}
	w.seen.only(t, ip)

	// What moved away while nobody was there goes before it is confirmed.
	n.stop()
	n.start(t, len(w.nodes))
	n.state.AddPod(near.port)
	if _, err := n.state.SetEgress("red", 1, assignments("red", map[string]int{ip: -1})); err != nil {
		t.Fatal(err)
	}
	n.want(6, hosted(other, "blue", 0))
	<-n.host.Begun()
	n.plumb(t)
	n.awaitConfirmed(t, 6)
	if has := n.ns.Run(t, "iptables-save") + n.ns.Run(t, "ip", "-4", "address") + n.ns.Run(t, "nft", "list", "table", "ip", "damask_egress"); strings.Contains(has, ip+"/") || strings.Contains(has, ip+"\n") || !strings.Contains(has, other) {
		t.Errorf("%s is left in\n%s", ip, has)
	}
	w.seen.sources()
	near.wantClosed(t)
	w.seen.only(t)
}

// TestNobodyConnectsToAnEgressIP asks the node's own server, and a node port, by both
// addresses.
func TestNobodyConnectsToAnEgressIP(t *testing.T) {
	w := newWorld(t, 2)
	n := w.nodes[0]
	const ip = "192.0.2.100"
	pod := n.addPod(t, "plain", 9)
	serve(t, pod.ns, ":8080")
	serve(t, n.ns, ":22")
	n.ns.Run(t, "iptables", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "-m", "addrtype", "--dst-type", "LOCAL", "--dport", "30080",
		"-j", "DNAT", "--to-destination", pod.ip.String()+":8080")
	n.leave(t, "plain")
	n.hosts(t, 1, hosted(ip, "red", 0))
	connect := func(address string) error {
		var err error
		w.outside.Do(t, func() {
			var conn net.Conn
			if conn, err = net.DialTimeout("tcp4", address, answerLimit); err == nil {
				_, err = ask(conn, answerLimit)
				_ = conn.Close()
			}
		})
		return err
	}
	for _, port := range []int{22, 30080} {
		if err := connect(fmt.Sprintf("192.0.2.1:%d", port)); err != nil {
			t.Errorf("the node's own address, port %d: %v", port, err)
		}
		if err := connect(fmt.Sprintf("%s:%d", ip, port)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the egress IP, port %d: %v, want that it is refused", port, err)
		}
	}
	n.ns.Run(t, "iptables", "-F", "OPENSHIFT-FIREWALL-ALLOW") // and without the rule of iptables
	if err := connect(ip + ":22"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the egress IP, without a rule: %v, want that it is refused", err)
	}
}
