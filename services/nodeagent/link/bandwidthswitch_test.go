package link_test

import (
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/services/nodeagent/link"
)

// TestASwitchInUserspaceSendsThroughTheBucketAndLeavesIt: it writes frames to the device by a
// packet socket, and looks after queueing disciplines of its own whenever ports change.
func TestASwitchInUserspaceSendsThroughTheBucketAndLeavesIt(t *testing.T) {
	proctest.Need(t, "tc")
	w := newWorld(t)
	a, b := w.addPod(t, "10.130.0.5"), w.addPod(t, "10.130.0.6")
	w.flows(t)
	ask := serve(t, b, "10.130.0.6:0") // a megabyte for each who asks
	took := func(from *netnstest.Namespace) time.Duration {
		began := time.Now()
		ask(from)
		return time.Since(began)
	}
	free := took(a)
	const rate = 8_000_000 // a megabyte a second
	veth := link.HostVeth("10.130.0.5", "eth0")
	bounded := link.Pod{Netns: a.Path(), Interface: "eth0", HostVeth: veth, Bandwidth: link.Bandwidth{Ingress: link.Rate{BitsPerSecond: rate}}}
	if _, err := w.links.EnsureBandwidth(w.context(t), bounded); err != nil {
		t.Fatal(err)
	}
	w.addPod(t, "10.130.0.7") // The switch configures its ports.
	w.flows(t)
	if got := w.node.Run(t, "tc", "qdisc", "show", "dev", veth, "root"); !strings.HasPrefix(got, "qdisc tbf da:") {
		t.Fatalf("the switch made of the bucket %q", got)
	}
	bound := took(a)
	t.Logf("a megabyte to a pod takes %v, at 8 Mbit/s %v", free, bound)
	if bound < 900*time.Millisecond || bound < 2*free {
		t.Errorf("a megabyte to a pod of 8 Mbit/s took %v, and without a bound %v", bound, free)
	}
	// What the other pod sends is bound where it sends it.
	bounded.Bandwidth = link.Bandwidth{}
	sender := link.Pod{Netns: b.Path(), Interface: "eth0", HostVeth: link.HostVeth("10.130.0.6", "eth0"),
		Bandwidth: link.Bandwidth{Egress: link.Rate{BitsPerSecond: rate}}}
	for _, p := range []link.Pod{bounded, sender} {
		if _, err := w.links.EnsureBandwidth(w.context(t), p); err != nil {
			t.Fatal(err)
		}
	}
	if bound := took(a); bound < 900*time.Millisecond || bound < 2*free {
		t.Errorf("a megabyte from a pod of 8 Mbit/s took %v, and without a bound %v", bound, free)
	}
}
