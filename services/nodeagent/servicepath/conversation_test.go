package servicepath

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// echoPort is where pods send back what they get, for as long as it comes.
const echoPort = 9090

// echo makes a pod send back what it gets, by TCP and UDP.
func (p *pod) echo(t testing.TB) {
	t.Helper()
	var listener net.Listener
	var packets net.PacketConn
	var err error
	p.ns.Do(t, func() {
		if listener, err = net.Listen("tcp4", fmt.Sprintf(":%d", echoPort)); err == nil {
			packets, err = net.ListenPacket("udp4", fmt.Sprintf(":%d", echoPort))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = listener.Close(), packets.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn) }()
		}
	}()
	go func() {
		b := make([]byte, 65535)
		for {
			n, from, err := packets.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo(b[:n], from)
		}
	}()
}

// conversation is an established connection.
type conversation struct {
	name  string
	conn  net.Conn
	count int
}

// begin opens a conversation, that must work.
func (p *pod) begin(t testing.TB, network, address string) *conversation {
	t.Helper()
	c := &conversation{name: fmt.Sprintf("%s to %s by %s", p.ns.Name(), address, network)}
	var err error
	p.ns.Do(t, func() { c.conn, err = net.DialTimeout(network, address, answerLimit) })
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	t.Cleanup(func() { _ = c.conn.Close() })
	if !c.alive(t, answerLimit) {
		t.Fatalf("%s: no answer to the first word", c.name)
	}
	return c
}

// alive says a word and reports whether it is answered within the limit. By UDP it says
// it again and again.
func (c *conversation) alive(t testing.TB, limit time.Duration) bool {
	t.Helper()
	c.count++
	word := fmt.Sprintf("%08d", c.count)
	end := time.Now().Add(limit)
	stream := c.conn.RemoteAddr().Network() == "tcp"
	for first := true; time.Now().Before(end); first = false {
		if first || !stream {
			if _, err := c.conn.Write([]byte(word)); err != nil {
				return false
			}
		}
		try := end
		if next := time.Now().Add(50 * time.Millisecond); !stream && next.Before(end) {
			try = next
		}
		if err := c.conn.SetReadDeadline(try); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, len(word))
		// Older words may be answered before.
		for {
			if _, err := io.ReadFull(c.conn, answer); err != nil {
				break
			}
			if string(answer) == word {
				return true
			}
		}
	}
	return false
}

func wantAlive(t testing.TB, when string, all ...*conversation) {
	t.Helper()
	for _, c := range all {
		if !c.alive(t, 2*answerLimit) {
			t.Errorf("%s: %s is cut", when, c.name)
		}
	}
}

// cutLimit is how long a forbidden connection may go on once the switch has the flows:
// its revalidators take the old ones out of the datapath, on a busy machine not at once.
const cutLimit = 2 * time.Second

func wantCut(t testing.TB, when string, all ...*conversation) {
	t.Helper()
	start := time.Now()
	for _, c := range all {
		for c.alive(t, silence) {
			if time.Since(start) > cutLimit {
				t.Errorf("%s: %s goes on", when, c.name)
				break
			}
		}
	}
}
