package lab

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// forge sends lies from a place; sending always succeeds, arriving is the question.
func (c *cluster) forge(at place, lines ...string) {
	c.t.Helper()
	cmd := c.command(at, probeBinary, "forge")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("%s: probe forge: %v\n%s", at, err, out)
	}
}

type heard struct {
	Source string `json:"source"`
	Text   string `json:"text"`
}

func (b *background) heard(t *testing.T) []heard {
	t.Helper()
	var list []heard
	if err := json.Unmarshal(b.end(t), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// wantLiesDropped sends each lie next to the same packet without the lie: the
// truth must arrive, so that the absence of the lie means something. What ends
// each case is the arrival of an honest packet sent last, not a time.
func (c *cluster) wantLiesDropped(t *testing.T) {
	const (
		liar, sameNode, otherNode = "red/a", "red/b", "red/c"
		stranger                  = "default/a" // VNID 0: whom it pays to impersonate
	)
	t.Run("a source address that is not the pod's", func(t *testing.T) {
		for _, target := range []string{sameNode, otherNode} {
			ear := c.start(inPod(target), "hear", "9000")
			c.forge(inPod(liar),
				fmt.Sprintf("udp %s %s 9000 spoofed", c.podIP(stranger), c.podIP(target)),
				fmt.Sprintf("udp %s %s 9000 honest", c.podIP(liar), c.podIP(target)))
			c.wantHeard(t, ear, target, []heard{{c.podIP(liar), "honest"}})
		}
	})
	t.Run("an ARP sender that is not the pod's", func(t *testing.T) {
		ear := c.start(inPod(sameNode), "heararp")
		c.forge(inPod(liar),
			fmt.Sprintf("arp %s %s", c.podIP(stranger), c.podIP(sameNode)),
			fmt.Sprintf("arp %s %s", c.podIP(liar), c.podIP(sameNode)))
		c.settle(inPod(liar), sameNode)
		list := ear.heard(t)
		if slices.ContainsFunc(list, func(h heard) bool { return h.Source == c.podIP(stranger) }) {
			t.Errorf("%s heard ARP from %s, which %s claimed to be", sameNode, c.podIP(stranger), liar)
		}
		if !slices.ContainsFunc(list, func(h heard) bool { return h.Source == c.podIP(liar) }) {
			t.Errorf("%s did not hear honest ARP: %v", sameNode, list)
		}
	})

	// A tunnel packet with VNID 0 into another tenant's pod on node2.
	const victim = "blue/b"
	tunnelled := func(text string) string {
		return fmt.Sprintf("vxlan %s 0 %s %s %s 9001 %s", c.nodeIP("node2"), podMAC(c.podIP(victim)), c.podIP(stranger), c.podIP(victim), text)
	}
	t.Run("a tunnel packet from a pod", func(t *testing.T) {
		ear := c.start(inPod(victim), "hear", "9001")
		c.forge(inPod(liar), tunnelled("from-a-pod"))
		c.forge(onNode("node1"), tunnelled("from-a-node"))
		c.wantHeard(t, ear, victim, []heard{{c.podIP(stranger), "from-a-node"}})
	})
	t.Run("a tunnel packet from a stranger", func(t *testing.T) {
		ear := c.start(inPod(victim), "hear", "9001")
		c.forge(onOutside("outside"), tunnelled("from-a-stranger"))
		c.forge(onNode("node1"), tunnelled("from-a-node"))
		c.wantHeard(t, ear, victim, []heard{{c.podIP(stranger), "from-a-node"}})
	})
}

// wantHeard ends an ear once packets sent after the ones in question have gone
// the same way, and compares.
func (c *cluster) wantHeard(t *testing.T, ear *background, target string, want []heard) {
	t.Helper()
	for _, n := range []string{"node1", "node2"} {
		c.settle(onNode(n), target)
	}
	if got := ear.heard(t); !slices.Equal(got, want) {
		t.Errorf("%s heard %v, want %v", target, got, want)
	}
}

// settle sends an echo to a pod and waits for its answer: what was sent before
// it on the same way has arrived or never will.
func (c *cluster) settle(from place, to string) {
	c.t.Helper()
	wantAll(c.t, from, c.check(from, fmt.Sprintf("icmp %s 56", c.podIP(to))))
}

// podMAC is 0a:58 and the address, as observed on a real cluster.
func podMAC(ip string) string {
	var b [4]byte
	fmt.Sscanf(ip, "%d.%d.%d.%d", &b[0], &b[1], &b[2], &b[3])
	return fmt.Sprintf("0a:58:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}
