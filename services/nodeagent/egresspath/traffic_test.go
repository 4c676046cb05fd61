package egresspath

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// traffic is what a pod does all the time: packets by one UDP socket, and new TCP
// connections.
type traffic struct {
	t         *testing.T
	pod       *pod
	stop      chan struct{}
	running   sync.WaitGroup
	answered  atomic.Int64 // by UDP
	connected atomic.Int64
}

// talk starts it; it ends with the test.
func (p *pod) talk(t *testing.T) *traffic {
	t.Helper()
	tr := &traffic{t: t, pod: p, stop: make(chan struct{})}
	conn, err := p.dial(t, "udp4", outsideIP+":8080", answerLimit)
	if err != nil {
		t.Fatal(err)
	}
	tr.running.Go(func() { tr.send(conn) })
	tr.running.Go(func() { tr.hear(conn) })
	tr.running.Go(func() { tr.connect(p) })
	end := sync.OnceFunc(func() { close(tr.stop); _ = conn.Close(); tr.running.Wait() })
	t.Cleanup(end)
	return tr
}

func (tr *traffic) each(pace time.Duration, do func()) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-tr.stop:
			return
		case <-tick.C:
			do()
		}
	}
}

func (tr *traffic) send(conn net.Conn) {
	tr.each(2*time.Millisecond, func() { _, _ = conn.Write([]byte("x")) })
}

func (tr *traffic) hear(conn net.Conn) {
	buffer := make([]byte, 100)
	for {
		if _, err := conn.Read(buffer); err == nil {
			tr.answered.Add(1)
			continue
		}
		select {
		case <-tr.stop:
			return
		default: // A refusal by ICMP shows here too.
		}
	}
}

func (tr *traffic) connect(p *pod) {
	tr.each(10*time.Millisecond, func() {
		conn, err := p.dial(tr.t, "tcp4", outsideIP+":8080", 200*time.Millisecond)
		if err == nil {
			tr.connected.Add(1)
			_ = conn.Close()
		}
	})
}

// flows waits until both get answers, anew.
func (tr *traffic) flows(t *testing.T) {
	t.Helper()
	udp, tcp := tr.answered.Load(), tr.connected.Load()
	until(t, "packets are answered and connections made", func() bool {
		return tr.answered.Load() > udp+5 && tr.connected.Load() > tcp+2
	})
}
