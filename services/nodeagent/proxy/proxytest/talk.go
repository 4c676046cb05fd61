package proxytest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/netnstest"
)

const (
	// patience is how long an answer that must come may take on a busy machine.
	patience = 5 * time.Second
	// silence is how long no answer must come before we call it dropped. Answers in
	// the rig take less than a millisecond.
	silence = 400 * time.Millisecond
)

// answer is what a server says first: who it is, and whom it sees.
type answer struct{ server, client string }

func (a answer) String() string { return a.server + " saw " + a.client }

// parseAnswer reads "web 10.130.0.20".
func parseAnswer(line string) (answer, error) {
	server, client, ok := strings.Cut(strings.TrimSpace(line), " ")
	if !ok {
		return answer{}, fmt.Errorf("answer %q is no server and client", line)
	}
	return answer{server, client}, nil
}

// serve starts a TCP and a UDP server that say their name and whom they see. The TCP
// server then sends back each line until the client closes.
func (r *rig) serve(t *testing.T, ns *netnstest.Namespace, name string, port int) {
	t.Helper()
	var listener net.Listener
	var packets net.PacketConn
	var err error
	ns.Do(t, func() {
		if listener, err = net.Listen("tcp4", fmt.Sprintf(":%d", port)); err == nil {
			packets, err = net.ListenPacket("udp4", fmt.Sprintf(":%d", port))
		}
	})
	if err != nil {
		t.Fatalf("listen as %s: %v", name, err)
	}
	t.Cleanup(func() { _, _ = listener.Close(), packets.Close() })
	go acceptAll(listener, name)
	go answerAll(packets, name)
}

// acceptAll answers TCP connections until the listener is closed.
func acceptAll(listener net.Listener, name string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			if _, err := fmt.Fprintf(conn, "%s %s\n", name, hostOf(conn.RemoteAddr())); err != nil {
				return
			}
			lines := bufio.NewScanner(conn)
			for lines.Scan() {
				if _, err := fmt.Fprintln(conn, lines.Text()); err != nil {
					return
				}
			}
		}()
	}
}

// answerAll answers datagrams until the socket is closed. What is sent to a backend on
// a wildcard socket is answered from the address it was sent to: pods have one only.
func answerAll(packets net.PacketConn, name string) {
	buffer := make([]byte, 64)
	for {
		_, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return
		}
		// An error is a client that is gone; the next one may be there.
		_, _ = packets.WriteTo([]byte(name+" "+hostOf(from)), from)
	}
}

// hostOf is the address without the port.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// client is where a connection starts.
type client struct {
	name string
	ns   *netnstest.Namespace
	bind string // source address; empty: the kernel's choice
}

func (r *rig) fromPod() client      { return client{"a pod", r.client, ""} }
func (r *rig) fromWeb() client      { return client{"the web pod", r.web, ""} }
func (r *rig) fromNode() client     { return client{"the node", r.node, ""} }
func (r *rig) fromOutside() client  { return client{"outside", r.outside, outsideAddr} }
func (r *rig) fromStranger() client { return client{"a stranger", r.outside, strangerAddr} }

// dialHere connects from the calling thread's namespace.
func dialHere(ctx context.Context, network, bind, to string, wait time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: wait}
	if bind != "" {
		ip := net.ParseIP(bind)
		dialer.LocalAddr = &net.TCPAddr{IP: ip}
		if network == "udp4" {
			dialer.LocalAddr = &net.UDPAddr{IP: ip}
		}
	}
	conn, err := dialer.DialContext(ctx, network, to)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// askHere makes one TCP connection from the calling thread's namespace, hears who
// serves it, and closes it.
func askHere(ctx context.Context, bind, to string, wait time.Duration) (answer, error) {
	conn, err := dialHere(ctx, "tcp4", bind, to, wait)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	return hear(conn, wait)
}

// hear reads the first line of a TCP server.
func hear(conn net.Conn, wait time.Duration) (answer, error) {
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return answer{}, err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return answer{}, err
	}
	return parseAnswer(line)
}

// exchange sends a datagram on a connected socket and reads the answer.
func exchange(conn net.Conn, wait time.Duration) (answer, error) {
	if _, err := conn.Write([]byte("who")); err != nil {
		return answer{}, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return answer{}, err
	}
	buffer := make([]byte, 64)
	n, err := conn.Read(buffer)
	if err != nil {
		return answer{}, err
	}
	return parseAnswer(string(buffer[:n]))
}

// ask makes one TCP connection.
func (c client) ask(t *testing.T, to string, wait time.Duration) (a answer, err error) {
	t.Helper()
	c.ns.Do(t, func() { a, err = askHere(t.Context(), c.bind, to, wait) })
	return a, err
}

// open makes a connection that stays until the test ends.
func (c client) open(t *testing.T, network, to string) net.Conn {
	t.Helper()
	var conn net.Conn
	var err error
	c.ns.Do(t, func() { conn, err = dialHere(t.Context(), network, c.bind, to, patience) })
	if err != nil {
		t.Fatalf("%s opens %s %s: %v", c.name, network, to, err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// wantAnswer expects that a connection reaches one of the servers, which sees the
// client as given.
func (c client) wantAnswer(t *testing.T, to, servers, seenAs string) {
	t.Helper()
	got, err := c.ask(t, to, patience)
	if err != nil {
		t.Errorf("from %s to %s: %v", c.name, to, err)
		return
	}
	if !strings.Contains(" "+servers+" ", " "+got.server+" ") || got.client != seenAs {
		t.Errorf("from %s to %s: %v, want %s saw %s", c.name, to, got, servers, seenAs)
	}
}

// wantRefused expects "connection refused".
func (c client) wantRefused(t *testing.T, to string) {
	t.Helper()
	if got, err := c.ask(t, to, patience); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("from %s to %s: got %v, error %v; want connection refused", c.name, to, got, err)
	}
}

// wantSilence expects no answer at all.
func (c client) wantSilence(t *testing.T, to string) {
	t.Helper()
	var timeout net.Error
	if got, err := c.ask(t, to, silence); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("from %s to %s: got %v, error %v; want silence", c.name, to, got, err)
	}
}
