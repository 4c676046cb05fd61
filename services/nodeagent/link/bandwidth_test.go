package link

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/netnstest"
)

// shaped answers what `tc` says of an interface's root.
func shaped(t testing.TB, ns *netnstest.Namespace, device string) string {
	t.Helper()
	return strings.Join(lines(ns.Run(t, "tc", "qdisc", "show", "dev", device, "root")), "; ")
}

func TestBandwidthOfAPodIsSetChangedAndRemoved(t *testing.T) {
	n := newNode(t, false)
	p, inside := n.pod(t, 0)
	p.Bandwidth = Bandwidth{Ingress: Rate{BitsPerSecond: 10_000_000}}
	if _, err := n.EnsurePod(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	expect := func(what, ingress, egress string) {
		t.Helper()
		for _, end := range []struct{ where, got, want string }{
			{"to", shaped(t, n.ns, p.HostVeth), ingress}, {"from", shaped(t, inside, "eth0"), egress},
		} {
			if !strings.HasPrefix(end.got, end.want) {
				t.Errorf("%s: %s the pod: %q, want %q", what, end.where, end.got, end.want)
			}
		}
	}
	const none = "qdisc noqueue"
	expect("made", "qdisc tbf da: root refcnt 3 rate 10Mbit burst 12500b lat 100ms", none)
	for _, step := range []struct {
		what            string
		b               Bandwidth
		ingress, egress string
		differ          int
	}{
		{"the same", Bandwidth{Ingress: Rate{BitsPerSecond: 10_000_000}}, "qdisc tbf da: root refcnt 3 rate 10Mbit", none, 0},
		{"both", Bandwidth{Ingress: Rate{BitsPerSecond: 20_000_000}, Egress: Rate{BitsPerSecond: 5_000_000, Burst: 80_000}},
			"qdisc tbf da: root refcnt 3 rate 20Mbit burst 25000b", "qdisc tbf da: root refcnt 3 rate 5Mbit burst 10000b", 2},
		{"a burst that is not meant", Bandwidth{Ingress: Rate{BitsPerSecond: 20_000_000}, Egress: Rate{BitsPerSecond: 5_000_000, Burst: 1<<32 - 1}},
			"qdisc tbf da: root refcnt 3 rate 20Mbit", "qdisc tbf da: root refcnt 3 rate 5Mbit burst 6250b", 1},
		{"the least and the most", Bandwidth{Ingress: Rate{BitsPerSecond: 1000}, Egress: Rate{BitsPerSecond: 1e15, Burst: 8}},
			"qdisc tbf da: root refcnt 3 rate 1Kbit", "qdisc tbf da: root refcnt 3 rate 1000Tbit", 2},
		{"none", Bandwidth{}, none, none, 2},
		{"none again", Bandwidth{}, none, none, 0},
	} {
		p.Bandwidth = step.b
		if found, err := n.CheckPod(t.Context(), p); err != nil || len(found) != step.differ {
			t.Errorf("%s: CHECK says %q, %v, want %d differences", step.what, found, err, step.differ)
		}
		if found, err := n.EnsureBandwidth(t.Context(), p); err != nil || len(found) != step.differ {
			t.Errorf("%s: changed %q, %v, want %d changes", step.what, found, err, step.differ)
		}
		expect(step.what, step.ingress, step.egress)
	}
}

func TestWhatSomebodyElseShapesIsLeftUnlessARateIsWished(t *testing.T) {
	n := newNode(t, false)
	p, inside := n.pod(t, 0)
	if _, err := n.EnsurePod(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	inside.Run(t, "tc", "qdisc", "add", "dev", "eth0", "root", "handle", "7:", "pfifo", "limit", "9")
	if found, err := n.EnsurePod(t.Context(), p); err != nil || len(found.Repairs) > 0 {
		t.Errorf("changed %q, %v", found.Repairs, err)
	}
	if got := shaped(t, inside, "eth0"); !strings.HasPrefix(got, "qdisc pfifo 7:") {
		t.Errorf("the pod's own is now %q", got)
	}
	p.Bandwidth.Egress.BitsPerSecond = 1_000_000
	if _, err := n.EnsurePod(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if got := shaped(t, inside, "eth0"); !strings.HasPrefix(got, "qdisc tbf da:") {
		t.Errorf("what the pod made goes around the limit: %q", got)
	}
}

func TestBandwidthOfWhatIsNotThereIsAnError(t *testing.T) {
	n := newNode(t, false)
	p, _ := n.pod(t, 0)
	p.Bandwidth.Egress.BitsPerSecond = 1_000_000
	if found, err := n.EnsureBandwidth(t.Context(), p); err == nil {
		t.Errorf("changed %q of a pod that has no link", found)
	}
}

// TestBucketsHoldAFrame: what does not fit into a bucket is never sent.
func TestBucketsHoldAFrame(t *testing.T) {
	n := newNode(t, false)
	p, _ := n.pod(t, 0)
	made, err := n.EnsurePod(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	v, err := n.view(p)
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	device, err := v.node.LinkByIndex(made.HostIndex)
	if err != nil {
		t.Fatal(err)
	}
	for rate := uint64(1000); rate <= 1e15; rate *= 10 {
		for _, mtu := range []int{576, 1450, 8950} {
			for _, burst := range []uint64{0, 1, 8 * 64, UnknownBurst} {
				b := Rate{BitsPerSecond: rate, Burst: burst}.bucket(device, mtu)
				if holds := float64(b.Buffer) * tick / 1e9 * float64(b.Rate); holds < float64(mtu+frameHeader)-1 {
					t.Errorf("rate %d, MTU %d, burst %d: a bucket of %.0f bytes", rate, mtu, burst, holds)
				}
				if b.Limit < uint32(mtu+frameHeader) {
					t.Errorf("rate %d, MTU %d, burst %d: a queue of %d bytes", rate, mtu, burst, b.Limit)
				}
			}
		}
	}
}

// transfer answers how long it takes to send so many bytes by TCP.
func transfer(t *testing.T, from, to *netnstest.Namespace, address string, size int) time.Duration {
	t.Helper()
	var listener net.Listener
	to.Do(t, func() {
		var err error
		if listener, err = net.Listen("tcp4", address+":0"); err != nil {
			t.Fatal(err)
		}
	})
	defer listener.Close()
	var conn net.Conn
	from.Do(t, func() {
		var err error
		if conn, err = net.Dial("tcp4", listener.Addr().String()); err != nil {
			t.Fatal(err)
		}
	})
	began := time.Now()
	go func() {
		_, _ = conn.Write(make([]byte, size))
		_ = conn.Close()
	}()
	got, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if n, err := io.Copy(io.Discard, got); err != nil || n != int64(size) {
		t.Fatalf("%d of %d bytes arrived: %v", n, size, err)
	}
	return time.Since(began)
}

func TestPacketsTakeTheirTimeInBothDirections(t *testing.T) {
	n := newNode(t, false)
	p, pod := n.pod(t, 0)
	if _, err := n.EnsurePod(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	n.ns.Run(t, "ip", "address", "add", p.Gateway.String()+"/23", "dev", p.HostVeth)
	const size = 1 << 20
	node, own := p.Gateway.String(), p.Address.Addr().String()
	measure := func() (to, from time.Duration) {
		to, from = transfer(t, n.ns, pod, own, size), transfer(t, pod, n.ns, node, size)
		return to, from
	}
	freeTo, freeFrom := measure()
	const rate = 8_000_000 // a megabyte a second
	for _, direction := range []string{"to", "from"} {
		p.Bandwidth = Bandwidth{}
		if direction == "to" {
			p.Bandwidth.Ingress.BitsPerSecond = rate
		} else {
			p.Bandwidth.Egress.BitsPerSecond = rate
		}
		if _, err := n.EnsureBandwidth(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		to, from := measure()
		t.Logf("8 Mbit/s %s the pod: a megabyte takes %v to it and %v from it; without, %v and %v", direction, to, from, freeTo, freeFrom)
		bound, free := to, from
		if direction == "from" {
			bound, free = from, to
		}
		// Bursts aside it takes a second at least, and what is in the other direction a fraction.
		if bound < 900*time.Millisecond {
			t.Errorf("8 Mbit/s %s the pod: a megabyte took %v", direction, bound)
		}
		if free > bound/2 {
			t.Errorf("8 Mbit/s %s the pod: the other direction took %v, this one %v", direction, free, bound)
		}
	}
	p.Bandwidth = Bandwidth{}
	if found, err := n.EnsureBandwidth(t.Context(), p); err != nil || !slices.Equal(found, []string{fmt.Sprintf("eth0: is bound to %d bit/s, should not be", rate)}) {
		t.Errorf("changed %q, %v", found, err)
	}
	if to, from := measure(); to > 900*time.Millisecond || from > 900*time.Millisecond {
		t.Errorf("without a limit again a megabyte takes %v and %v", to, from)
	}
}
