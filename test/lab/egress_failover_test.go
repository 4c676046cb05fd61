package lab

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// failoverNodes may all host the address; a seventh has the pods that are asked, and
// never fails.
const failoverNodes = 6

// failovers is how often each sort of failure is made; DAMASK_FAILOVERS asks for more.
func failovers(t *testing.T) int {
	text := os.Getenv("DAMASK_FAILOVERS")
	if text == "" {
		return 3
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("DAMASK_FAILOVERS: %q is no number of failures", text)
	}
	return n
}

// failoverGoal is how long new connections may not get out at most.
const failoverGoal = 1500 * time.Millisecond

// failoverBefore is how long OpenShift SDN's nodes took at least to notice a dead one. Nothing
// may take as long here, however busy the machine is.
const failoverBefore = 9 * time.Second

func failoverTopology() string {
	text := "replicas: {egress: 2}\nnamespaces: [{name: red, egressIPs: [192.168.108.200]}]\nnodes:\n- {name: worker}\n"
	pods := "pods:\n- {namespace: red, name: worker, node: worker}\n"
	for i := range failoverNodes {
		text += fmt.Sprintf("- {name: node%d, egressIPs: [192.168.108.200]}\n", i+1)
		pods += fmt.Sprintf("- {namespace: red, name: p%d, node: node%d}\n", i+1, i+1)
	}
	return text + pods
}

// failure is a way in which a node is lost, and comes back.
type failure struct {
	lose, back func(c *cluster, node string)
}

func TestAKilledHostOfAnEgressIPIsReplaced(t *testing.T) {
	failOver(t, failure{
		lose: func(c *cluster, node string) { c.run("lab", "kill", "--name", c.name, node) },
		back: func(c *cluster, node string) { c.run("lab", "start", "--name", c.name, node) },
	})
}

func TestAnUnpluggedHostOfAnEgressIPIsReplaced(t *testing.T) {
	failOver(t, failure{
		lose: func(c *cluster, node string) { c.run("lab", "unplug", "--name", c.name, node) },
		back: func(c *cluster, node string) { c.run("lab", "plug", "--name", c.name, node) },
	})
}

// failOver loses the node that hosts the address, again and again, while pods of all
// nodes make new connections. It measures how long those of a node that is well did
// not get out, and looks at every packet that came out.
func failOver(t *testing.T, f failure) {
	c := up(t, failoverTopology())
	c.wantLeaving(t, "red", "192.168.108.200")
	c.start(onOutside(""), "serve", leavePort, "outside")
	at := outsideIP + ":" + leavePort
	worker := []*background{c.start(inPod("red/worker"), "series", "tcp", at, "10ms"), c.start(inPod("red/worker"), "series", "udp", at, "10ms")}
	end := c.witness()
	var lost []string // the nodes that failed, in order
	var begun []time.Time
	for range failovers(t) {
		host := c.trusted(t)
		// Traffic of pods on the host itself, and on one that may be next.
		near := c.start(inPod("red/p"+strings.TrimPrefix(host, "node")), "series", "udp", at, "20ms")
		lost, begun = append(lost, host), append(begun, time.Now())
		f.lose(c, host)
		c.eventually(t, "another node than "+host+" hosts the address", func() bool { now := c.hostOf("192.168.108.200"); return now != "" && now != host })
		f.back(c, host)
		near.stdin.Close() // on a node that lost its power it is gone
	}
	c.trusted(t)
	var outages []time.Duration
	for i, b := range worker {
		list := readSeries(t, b)
		for n := range lost {
			until := time.Now()
			if n+1 < len(begun) {
				until = begun[n+1]
			}
			outages = append(outages, longestSilence(list, begun[n], until))
		}
		for _, a := range list {
			if a.Source != "" && a.Source != "192.168.108.200" {
				t.Errorf("series %d: a connection came from %s", i, a.Source)
			}
		}
	}
	seen := end(t)
	// On a loaded machine living nodes are taken for dead as well.
	quiet := c.failures() == len(lost)
	c.wantFailedOverCleanly(t, seen, lost, quiet)
	slices.Sort(outages)
	most, p99 := outages[len(outages)-1], outages[(len(outages)*99-1)/100]
	verdict := "reached"
	if p99 > failoverGoal {
		verdict = "MISSED"
	}
	t.Logf("%d failures: new connections did not get out for %s (median), %s (p99), %s (most); goal p99 %s: %s",
		len(lost), outages[len(outages)/2].Round(time.Millisecond), p99.Round(time.Millisecond), most.Round(time.Millisecond), failoverGoal, verdict)
	if most >= failoverBefore {
		t.Errorf("an outage took %s", most)
	}
	if median := outages[len(outages)/2]; quiet && median > failoverGoal {
		t.Errorf("half of the outages took %s and more", median)
	}
}

// wantFailedOverCleanly complains of packets from any other address, of machines that had
// the address at the same time, of moves that nobody announced, and, if only dead nodes were
// replaced, of more moves than nodes have died.
func (c *cluster) wantFailedOverCleanly(t *testing.T, seen testimony, lost []string, once bool) {
	t.Helper()
	packets := 0
	for _, kind := range []string{"tcp " + leavePort, "udp " + leavePort} {
		seen.wantOnly(t, kind, "192.168.108.200")
		packets += seen.sources(kind)["192.168.108.200"]
		// A machine that had the address, and not any more, must not come again before
		// the address has moved back to it.
		if moves := seen.moves(kind); once && moves > len(lost) {
			t.Errorf("%s: %d failures, and the address was seen to move %d times", kind, len(lost), moves)
		}
	}
	for _, moment := range seen.overlaps("192.168.108.200") {
		t.Errorf("two machines had the address at once: %s", moment)
	}
	announced := map[string]bool{}
	for _, a := range seen.Announced {
		if a.Source == "192.168.108.200" {
			announced[a.MAC] = true
		}
	}
	for _, kind := range []string{"tcp " + leavePort, "udp " + leavePort} {
		for i, s := range seen.Arrived[kind] {
			if i == 0 {
				announced[s.MAC] = true // it had the address before anybody looked
			}
			if !announced[s.MAC] {
				t.Errorf("%s took the address without announcing it", s.MAC)
			}
		}
	}
	t.Logf("%d packets came out, every source was looked at", packets)
}

// trusted waits until a node hosts the address and another one is trusted that could take
// it, and answers which hosts it.
func (c *cluster) trusted(t *testing.T) string {
	t.Helper()
	c.eventuallyWithin(t, 6*time.Minute, "enough nodes are trusted", func() bool {
		return c.hostOf("192.168.108.200") != "" && c.healthy() >= 3
	})
	return c.hostOf("192.168.108.200")
}

// healthy counts the nodes that egress trusts.
func (c *cluster) healthy() (n int) {
	return strings.Count(c.ctl("get", "egressnodes"), " up ")
}

// failures counts how often nodes were taken for dead.
func (c *cluster) failures() (n int) {
	for line := range strings.Lines(c.ctl("get", "egressnodes")) {
		if f := strings.Fields(line); f[0] != "NAME" {
			count, err := strconv.Atoi(f[3])
			if err != nil {
				c.t.Fatal(err)
			}
			n += count
		}
	}
	return n
}

// longestSilence is the longest time in which no connection was answered, from a moment on
// until another, or until the last connection was begun.
func longestSilence(list []asked, from, to time.Time) time.Duration {
	begin, end := from.UnixMicro(), to.UnixMicro()
	if len(list) > 0 {
		end = min(end, list[len(list)-1].At)
	}
	ends := []int64{begin, end}
	for _, a := range list {
		if answered := a.At + a.Took; a.Error == "" && answered >= begin && answered <= end {
			ends = append(ends, answered)
		}
	}
	slices.Sort(ends)
	longest := int64(0)
	for i := 1; i < len(ends); i++ {
		longest = max(longest, ends[i]-ends[i-1])
	}
	return time.Duration(longest) * time.Microsecond
}
