package servicepath

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// socket is a UDP socket of a pod that takes packets from anybody.
type socket struct{ net.PacketConn }

// bind opens a socket at an address and port.
func (p *pod) bind(t *testing.T, local netip.AddrPort) socket {
	t.Helper()
	var conn net.PacketConn
	var err error
	p.ns.Do(t, func() { conn, err = net.ListenPacket("udp4", local.String()) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return socket{conn}
}

func (s socket) send(t *testing.T, to string) {
	t.Helper()
	addr, err := net.ResolveUDPAddr("udp4", to)
	if err == nil {
		_, err = s.WriteTo([]byte("hello"), addr)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// next is from whom the next packet comes; empty when none does.
func (s socket) next(t *testing.T, limit time.Duration) string {
	t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	_, from, err := s.ReadFrom(make([]byte, 1500))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return from.String()
}

func (s socket) wantNothing(t *testing.T) {
	t.Helper()
	if from := s.next(t, silence); from != "" {
		t.Errorf("the client hears %s", from)
	}
}
