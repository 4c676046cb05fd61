package bridge

import (
	"fmt"
	"sync"
	"testing"
)

// BenchmarkAddPort measures AddPort until the number is known, and for the ratio the
// same by starting ovs-vsctl, as the ancestor does.
func BenchmarkAddPort(b *testing.B) {
	n := newNode(b)
	n.ensure(b, vxlanSpec())
	n.device(b, "veth1")
	ids := map[string]string{"sandbox": "0123456789abcdef", "ip": "10.130.0.5"}
	b.Run("libovsdb", func(b *testing.B) {
		for b.Loop() {
			if _, err := n.AddPort(b.Context(), Port{Name: "veth1", ExternalIDs: ids}); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := n.DeletePort(b.Context(), "veth1"); err != nil {
				b.Fatal(err)
			}
			n.idle(b)
			b.StartTimer()
		}
	})
	b.Run("ovs-vsctl", func(b *testing.B) {
		for b.Loop() {
			n.sw.Vsctl(b, "add-port", "br0", "veth1", "--", "set", "Interface", "veth1", "external_ids:sandbox=0123456789abcdef")
			n.sw.Vsctl(b, "get", "Interface", "veth1", "ofport")
			b.StopTimer()
			n.sw.Vsctl(b, "del-port", "veth1")
			b.StartTimer()
		}
	})
}

// BenchmarkAddPortParallel measures ten AddPorts at once, per port.
func BenchmarkAddPortParallel(b *testing.B) {
	const at = 10
	n := newNode(b)
	n.ensure(b, vxlanSpec())
	for i := range at {
		n.device(b, fmt.Sprintf("veth%d", i))
	}
	for b.Loop() {
		all(b, at, func(i int) error {
			_, err := n.AddPort(b.Context(), Port{Name: fmt.Sprintf("veth%d", i)})
			return err
		})
		b.StopTimer()
		all(b, at, func(i int) error { return n.DeletePort(b.Context(), fmt.Sprintf("veth%d", i)) })
		n.idle(b)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*at), "µs/port")
}

func all(b *testing.B, times int, do func(i int) error) {
	var wg sync.WaitGroup
	for i := range times {
		wg.Go(func() {
			if err := do(i); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
}

// idle waits until ovs-vswitchd has done all that it was asked for: DeletePort does
// not wait for it, and the next AddPort would be blamed.
func (n *node) idle(b *testing.B) {
	b.Helper()
	err := n.retried(b.Context(), func(s *session) error {
		number, err := s.configure(b.Context(), nil)
		if err != nil {
			return err
		}
		return n.settled(b.Context(), s, number, func() bool { return true })
	})
	if err != nil {
		b.Fatal(err)
	}
}
