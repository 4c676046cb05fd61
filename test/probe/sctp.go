package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// SCTP in the one-to-one style of RFC 6458: a connection that is read and written as
// TCP's. Each end has one address only: those that it would tell the other of besides
// are told inside of a chunk, where no translation of addresses looks.

// errNoSCTP is that of a kernel without SCTP.
var errNoSCTP = fmt.Errorf("this kernel has no SCTP: %w", unix.EPROTONOSUPPORT)

// socketSCTP makes a socket with one local address and port; port 0: any.
func socketSCTP(local netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return -1, errNoSCTP
	}
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: local.Addr().As4(), Port: int(local.Port())}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("bind %s: %w", local, err)
	}
	return fd, nil
}

// listenSCTP listens on each address of the machine by itself.
func listenSCTP(port uint16) ([]net.Listener, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var listeners []net.Listener
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil || !prefix.Addr().Is4() {
			continue
		}
		l, err := listenSCTPAt(netip.AddrPortFrom(prefix.Addr(), port))
		if err != nil {
			return listeners, err
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func listenSCTPAt(local netip.AddrPort) (net.Listener, error) {
	fd, err := socketSCTP(local)
	if err != nil {
		return nil, err
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("listen", err)
	}
	// The file is made for TCP, and asks nothing of a stream that SCTP does not have.
	file := os.NewFile(uintptr(fd), "sctp "+local.String())
	defer file.Close()
	return net.FileListener(file)
}

// dialSCTP connects within a time. A packet that is lost is repeated after another.
func dialSCTP(addr string, within, repeat time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	from, err := sourceOf(to)
	if err != nil {
		return nil, err
	}
	fd, err := socketSCTP(netip.AddrPortFrom(from, 0))
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "sctp to "+addr)
	defer file.Close()
	if err := repeatSCTP(fd, repeat); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	if errors.Is(err, unix.EINPROGRESS) {
		err = connected(fd, time.Now().Add(within))
	}
	if err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	return net.FileConn(file)
}

// connected waits for the end of a connect that does not wait itself: that one would be
// broken off by any signal, of which Go's runtime sends itself many.
func connected(fd int, deadline time.Time) error {
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if ready == 0 {
			continue
		}
		number, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && number != 0 {
			err = unix.Errno(number)
		}
		return err
	}
}

// After how long a lost packet of SCTP is repeated at first, for who has one association and
// wants it: RTO.Initial of RFC 9260, which TCP has as well. Linux still takes the three
// seconds of the RFC before.
const rtoInitial = time.Second

// repeatSCTP sets it.
func repeatSCTP(fd int, after time.Duration) error {
	const rtoInfo = 0           // SCTP_RTOINFO of linux/sctp.h
	info := make([]byte, 0, 16) // struct sctp_rtoinfo
	// The association, initial, longest and shortest, in ms; 0: as it is.
	for _, n := range []uint32{0, uint32(after.Milliseconds()), 0, 0} {
		info = binary.NativeEndian.AppendUint32(info, n)
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptString(fd, unix.IPPROTO_SCTP, rtoInfo, string(info)))
}

// sourceOf answers the address that the kernel gives to what goes to an address.
func sourceOf(to netip.AddrPort) (netip.Addr, error) {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}
