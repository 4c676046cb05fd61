package idle

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/serviceview"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

func TestAConnectionWaitsForEndpointsAndKeepsItsClient(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig) {
		for _, c := range []struct {
			name, to, seen string
			from           *netnstest.Namespace
		}{
			{"a pod to the cluster IP", clusterIP + ":80", clientAddress, r.client},
			{"the node to the cluster IP", clusterIP + ":80", nodeAddress, r.node},
			{"from outside to the node port", fmt.Sprintf("%s:%d", nodeAddress, nodePort), clientAddress, r.client},
		} {
			t.Run(c.name, func(t *testing.T) {
				r.hold(t, web, frontends())
				r.endpoints(t, false)
				connection := connect(t, c.from, c.to)
				r.needed(t, web)
				if got := r.gate.Stats(); got.Waiting != 1 || got.Services != 1 {
					t.Errorf("while it waits: %+v", got)
				}
				select {
				case a := <-connection:
					t.Fatalf("it did not wait: %+v", a)
				default:
				}
				r.endpoints(t, true)
				released := time.Now()
				r.release(t, web)
				a := <-connection
				if a.err != nil {
					t.Fatal(a.err)
				}
				defer a.conn.Close()
				if a.seen != c.seen {
					t.Errorf("the backend saw %s, want %s", a.seen, c.seen)
				}
				// A repetition by the client would come after 1 s.
				took := a.at.Sub(released)
				if took > 700*time.Millisecond {
					t.Errorf("connected %v after the release: only the client's repetition did it", took)
				}
				t.Logf("connected %v after the release began", took.Round(100*time.Microsecond))
				if strings.Contains(r.saved(t), "DAMASK-IDLE") {
					t.Errorf("chains stay:\n%s", r.saved(t))
				}
			})
		}
	})
}

// datagrams is a UDP client in a namespace.
func datagrams(t *testing.T, from *netnstest.Namespace, to string) net.Conn {
	t.Helper()
	var conn net.Conn
	var err error
	from.Do(t, func() { conn, err = net.Dial("udp4", to) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	return conn
}

func TestDatagramsWaitAndArriveInTheirOrder(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig) {
		r.hold(t, web, frontends())
		r.endpoints(t, false)
		conn := datagrams(t, r.client, clusterIP+":80")
		for i := range 5 {
			if _, err := fmt.Fprint(conn, i); err != nil {
				t.Fatal(err)
			}
		}
		r.needed(t, web)
		r.until(t, "five datagrams wait", func(s Stats) bool { return s.Waiting == 5 })
		r.endpoints(t, true)
		r.release(t, web)
		for i := range 5 {
			b := make([]byte, 100)
			n, err := conn.Read(b)
			if want := fmt.Sprintf("%d %s", i, conn.LocalAddr()); err != nil || string(b[:n]) != want {
				t.Errorf("answer %d: %q, %v, want %q", i, b[:n], err, want)
			}
		}
		if len(r.needs) != 0 {
			t.Errorf("pods are called for %d times more in one burst", len(r.needs))
		}
	})
}

func TestWhatBelongsToAnOldConnectionIsDropped(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig) {
		r.endpoints(t, true)
		a := <-connect(t, r.client, clusterIP+":80")
		if a.err != nil {
			t.Fatal(a.err)
		}
		defer a.conn.Close()
		r.hold(t, web, frontends())
		r.endpoints(t, false)
		if _, err := a.conn.Write([]byte("x")); err != nil { // the backend would close
			t.Fatal(err)
		}
		// What comes after it on the same way has been seen, so it has been too.
		fresh := connect(t, r.client, clusterIP+":80")
		r.needed(t, web)
		_ = a.conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if n, err := a.conn.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "timeout") {
			t.Errorf("the old connection has an answer: %d, %v", n, err)
		}
		if got := r.gate.Stats(); got.Waiting != 1 {
			t.Errorf("only the new connection waits: %+v", got)
		}
		r.endpoints(t, true)
		r.release(t, web)
		if b := <-fresh; b.err != nil {
			t.Error(b.err)
		} else {
			_ = b.conn.Close()
		}
	})
}

func TestAFloodStaysWithinItsBounds(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig) {
		service := func(i int) (serviceview.Name, []Frontend) {
			return serviceview.Name{Namespace: "shop", Service: fmt.Sprintf("s%d", i)},
				[]Frontend{{addr(fmt.Sprintf("172.30.1.%d", i)), proxy.UDP, 80}}
		}
		const several = 20
		for i := range several {
			name, frontends := service(i)
			r.hold(t, name, frontends)
		}
		flood := func(i, count int) {
			conn := datagrams(t, r.client, fmt.Sprintf("172.30.1.%d:80", i))
			for range count {
				if _, err := conn.Write(make([]byte, 1000)); err != nil {
					t.Fatal(err)
				}
			}
		}
		flood(0, 20_000)
		r.until(t, "all of one flood that fits waits", func(s Stats) bool { return s.Waiting == maxOfService && s.Dropped > 0 })
		for i := 1; i < several; i++ {
			r.until(t, "what the kernel keeps waits", func(s Stats) bool { return s.Waiting == r.kernelWaits(t) })
			flood(i, 100)
			r.until(t, "another flood waits, as far as it fits", func(s Stats) bool { return s.Waiting == min((i+1)*maxOfService, maxWaiting) })
		}
		if total := r.kernelWaits(t); total < maxWaiting || total > maxWaiting+spare {
			t.Errorf("the kernel keeps %d packets, want %d, and at most %d more for a moment", total, maxWaiting, spare)
		}
		if err := r.sync(t, nil); err != nil {
			t.Fatal(err)
		}
		if got := r.gate.Stats(); got.Waiting != 0 || got.Services != 0 || got.Released < maxWaiting {
			t.Errorf("after all are let go: %+v", got)
		}
		if total := r.kernelWaits(t); total > spare {
			t.Errorf("the kernel keeps %d packets", total)
		}
	})
}

// kernelWaits is how many packets the kernel keeps in the queue.
func (r *rig) kernelWaits(t *testing.T) int {
	t.Helper()
	for line := range strings.Lines(r.node.Run(t, "cat", "/proc/net/netfilter/nfnetlink_queue")) {
		var number, pid, total int
		if _, err := fmt.Sscan(line, &number, &pid, &total); err == nil && number == DefaultQueue {
			return total
		}
	}
	t.Fatal("there is no queue")
	return 0
}
