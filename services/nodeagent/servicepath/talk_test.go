package servicepath

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

const (
	// answerLimit is how long an answer that must come may take on a busy machine.
	answerLimit = 5 * time.Second
	// silence is how long no answer must come before it is called dropped. Answers take
	// a millisecond here.
	silence = 400 * time.Millisecond
	// backendPort is where pods listen.
	backendPort = 8080
)

// serve makes a pod say, by TCP and UDP, who it is and whom it sees, and send back what
// it is sent.
func (p *pod) serve(t testing.TB) {
	t.Helper()
	var listener net.Listener
	var packets net.PacketConn
	var err error
	p.ns.Do(t, func() {
		if listener, err = net.Listen("tcp4", fmt.Sprintf(":%d", backendPort)); err == nil {
			packets, err = net.ListenPacket("udp4", fmt.Sprintf(":%d", backendPort))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = listener.Close(), packets.Close() })
	p.server = socket{packets}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go p.converse(conn)
		}
	}()
	go func() {
		request := make([]byte, 65535)
		for {
			n, from, err := packets.ReadFrom(request)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo(append([]byte(p.says(from)), request[:n]...), from)
		}
	}()
}

// converse serves one TCP connection.
func (p *pod) converse(conn net.Conn) {
	defer conn.Close()
	request, err := io.ReadAll(conn)
	if err != nil {
		return
	}
	_, _ = conn.Write(append([]byte(p.says(conn.RemoteAddr())), request...))
}

// says is what the pod says to a client.
func (p *pod) says(client net.Addr) string {
	host, _, err := net.SplitHostPort(client.String())
	if err != nil {
		host = client.String()
	}
	return p.ns.Name() + " saw " + host + "\n"
}

// backend is where the pod listens.
func (p *pod) backend() netip.AddrPort { return netip.AddrPortFrom(p.ip, backendPort) }

// at is a port of the pod.
func (p *pod) at(port uint16) netip.AddrPort { return netip.AddrPortFrom(p.ip, port) }

// ask sends size bytes to an address and answers the first line of what came back. The
// rest must be what was sent. A UDP socket that is connected, as this one is, takes
// answers from that very address alone.
func (p *pod) ask(t testing.TB, network, address string, size int, limit time.Duration) (string, error) {
	t.Helper()
	var conn net.Conn
	var err error
	p.ns.Do(t, func() { conn, err = net.DialTimeout(network, address, limit) })
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	request := bytes.Repeat([]byte("x"), size)
	if _, err := conn.Write(request); err != nil {
		return "", err
	}
	var reply []byte
	if stream, ok := conn.(*net.TCPConn); ok {
		if err := stream.CloseWrite(); err != nil {
			return "", err
		}
		reply, err = io.ReadAll(conn)
	} else {
		reply = make([]byte, 65535)
		var n int
		n, err = conn.Read(reply)
		reply = reply[:n]
	}
	if err != nil {
		return "", err
	}
	line, rest, _ := bytes.Cut(reply, []byte("\n"))
	if !bytes.Equal(rest, request) {
		return "", fmt.Errorf("%d bytes came back of %d", len(rest), size)
	}
	return string(line), nil
}

// wantAnswer asks by TCP and UDP, with little and with much, and wants this answer.
func (p *pod) wantAnswer(t testing.TB, address, want string) {
	t.Helper()
	for _, request := range []struct {
		network string
		size    int
	}{{"tcp4", 10}, {"tcp4", 1 << 20}, {"udp4", 10}, {"udp4", 4000}} {
		got, err := p.ask(t, request.network, address, request.size, answerLimit)
		if err != nil || got != want {
			t.Errorf("%s asks %s by %s with %d bytes: got %q (%v), want %q", p.ns.Name(), address, request.network, request.size, got, err, want)
		}
	}
}

// wantSilence asks by TCP and UDP and wants no answer, nor a refusal.
func (p *pod) wantSilence(t testing.TB, address string) {
	t.Helper()
	for _, network := range []string{"tcp4", "udp4"} {
		got, err := p.ask(t, network, address, 10, silence)
		if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s asks %s by %s: got %q (%v), want silence", p.ns.Name(), address, network, got, err)
		}
	}
}
