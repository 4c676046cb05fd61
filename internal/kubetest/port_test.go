package kubetest

import (
	"context"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReservedPortIsForTheServerOnly(t *testing.T) {
	p := reserve(t)
	if listener, err := net.Listen("tcp", p.address()); err == nil {
		_ = listener.Close()
		t.Error("somebody else could listen at it")
	}
	sharing := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		var err error
		return conn.Control(func(fd uintptr) {
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
				t.Error(err)
			}
		})
	}}
	for range 2 { // also after a restart
		if conn, err := net.Dial("tcp", p.address()); err == nil {
			_ = conn.Close()
			t.Error("connected, and nobody listens")
		}
		listener, err := sharing.Listen(context.Background(), "tcp", p.address())
		if err != nil {
			t.Fatal(err)
		}
		for range 20 { // never to the socket that keeps the port
			conn, err := net.Dial("tcp", p.address())
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
		}
		_ = listener.Close()
	}
}
