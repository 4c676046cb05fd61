package egressreach

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// TestNoRouteIsNoSignOfLife has probes answered by the neighbour, that the network of the
// target is unreachable, and refused by the node's own kernel for the same.
func TestNoRouteIsNoSignOfLife(t *testing.T) {
	node, _, prober := world(t)
	for address, words := range map[string]string{"198.18.0.1": "Destination Net Unreachable", "192.0.2.1": "Network is unreachable"} {
		if says := node.Run(t, "sh", "-c", "ping -c 1 -W 5 "+address+" 2>&1 || true"); !strings.Contains(says, words) {
			t.Fatalf("ping %s says %q, not %q", address, says, words)
		}
	}
	s, client := serve(t)
	start(t, prober.Run, New(map[string]egressv1.EgressNodeServiceClient{"a": client}, prober, newFence(prober, &hosting{}), hclog.NewNullLogger()).Run)
	s.watch(t, map[string]string{"other": "10.130.0.1", "behind": "198.18.0.1", "nowhere": "192.0.2.1"})
	want := map[string]bool{"other": true, "behind": false, "nowhere": false}
	s.until(t, 0, want)
	for range 5 { // It stays so while the errors go on coming.
		s.until(t, 0, want)
	}
}

// TestDeadNodesDelayNoReport watches many that never answer, one of the others dies.
func TestDeadNodesDelayNoReport(t *testing.T) {
	_, other, prober := world(t)
	s, client := serve(t)
	r := New(map[string]egressv1.EgressNodeServiceClient{"a": client}, prober, newFence(prober, &hosting{}), hclog.NewNullLogger())
	start(t, prober.Run, r.Run)
	const dead, most = 50, 10 * patience // One after another, they would take fifty times the patience.
	targets, want := map[string]string{"other": "10.130.0.1"}, map[string]bool{"other": true}
	for i := range dead {
		name := fmt.Sprintf("dead%d", i)
		targets[name], want[name] = fmt.Sprintf("10.131.0.%d", i+1), false
	}
	s.watch(t, targets)
	s.until(t, 0, want)
	r.Confirm(7)
	if took := s.until(t, 7, want); took > most {
		t.Errorf("beside %d dead nodes a confirmation is reported after %s", dead, took)
	}
	other.Run(t, "ip", "link", "set", "eth0", "down")
	want["other"] = false
	if took := s.until(t, 7, want); took > most {
		t.Errorf("beside %d dead nodes another is reported after %s", dead, took)
	} else {
		t.Logf("beside %d dead nodes another is reported after %s, with a patience of %s", dead, took, patience)
	}
}

// TestLostProbesDoNotAddUp loses every other probe of a hundred.
func TestLostProbesDoNotAddUp(t *testing.T) {
	_, _, prober := world(t)
	ip := netip.MustParseAddr("10.131.0.1") // It never answers by itself.
	for range 100 {
		prober.Send(ip)
		lost, waiting := prober.Waiting(ip)
		if !waiting {
			t.Fatal("a probe without an answer does not wait")
		}
		prober.Send(ip)
		if silent, next := prober.silent(ip, time.Minute); silent || !next.Equal(lost.Add(time.Minute)) {
			t.Fatalf("silent: %v, else at %s; want a minute after the first that was lost, %s", silent, next, lost)
		}
		reply := prober.probe(time.Now())
		reply[0] = echoReply
		prober.take(ip, reply)
		if since, waiting := prober.Waiting(ip); waiting {
			t.Fatalf("after an answer, the one of %s that was lost before still counts", since)
		}
		if silent, _ := prober.silent(ip, 0); silent {
			t.Fatal("silent after an answer")
		}
	}
}
