package apiserver

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// listen opens a port on loopback.
func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// connect opens a connection whose end somebody waits for.
func connect(t *testing.T, to net.Addr) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp4", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestARelayCarriesBothWaysAndEndsWithEitherEnd(t *testing.T) {
	server, entry := listen(t), listen(t)
	relay := NewRelay(entry, netip.MustParseAddrPort(server.Addr().String()), func(ctx context.Context, address string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()

	accepted := func() net.Conn {
		c, err := server.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	one, two := connect(t, entry.Addr()), connect(t, entry.Addr())
	for _, c := range []net.Conn{one, two} {
		if _, err := c.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
	}
	// Which is which, the servers do not know: each answers what it got, and ends.
	for range 2 {
		s := accepted()
		got := make([]byte, 1)
		if _, err := io.ReadFull(s, got); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(append(got, '!')); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
	}
	for _, c := range []net.Conn{one, two} {
		if got, err := io.ReadAll(c); err != nil || string(got) != "?!" {
			t.Errorf("got %q and %v, want the answer and the end", got, err)
		}
	}
	three := connect(t, entry.Addr())
	s := accepted()
	_ = three.Close()
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("the server reads on after the client's end")
	}

	// An API server that is away, and back.
	_ = server.Close()
	refused, err := net.Dial("tcp4", entry.Addr().String())
	if err == nil { // Else the reset was there before Dial had looked.
		_, err = refused.Read(make([]byte, 1))
		_ = refused.Close()
	}
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("got %v while the server was away, want a reset", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp4", entry.Addr().String()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("got %v after the end", err)
	}
}
