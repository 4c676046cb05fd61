package kubetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// loopback is where the API server listens.
var loopback = [4]byte{127, 0, 0, 1}

// port is a TCP port that is kept for the test, also while the API server is away.
type port struct{ number int }

// reserve finds a free port and keeps it. The socket that keeps it is bound and
// never listens, so who connects while the API server is away is refused. It has
// SO_REUSEPORT: the API server, which has it too (--permit-port-sharing), can listen
// beside it, and the kernel gives the port to nobody who asks for just any.
func reserve(t testing.TB) *port {
	t.Helper()
	fd, number, err := bound()
	if err != nil {
		t.Fatalf("reserve a port: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return &port{number: number}
}

func bound() (fd, number int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return 0, 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback}); err != nil {
		return 0, 0, err
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		return 0, 0, err
	}
	inet, ok := address.(*unix.SockaddrInet4)
	if !ok {
		return 0, 0, fmt.Errorf("the address of a socket is a %T", address)
	}
	return fd, inet.Port, nil
}

// listen listens at the port, beside whoever keeps it.
func (p *port) listen(ctx context.Context) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return errors.Join(err, failed)
	}}
	return config.Listen(ctx, "tcp", p.address())
}

func (p *port) host() string { return net.IP(loopback[:]).String() }

func (p *port) text() string { return strconv.Itoa(p.number) }

// address is host and port.
func (p *port) address() string { return net.JoinHostPort(p.host(), p.text()) }
