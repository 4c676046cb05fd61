package kubescale

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// place is a network namespace in a lab: the path of its file.
type place string

// network is the node's own network namespace.
func (n *node) network() place { return place(fmt.Sprintf("/proc/%d/ns/net", n.pid)) }

// do calls f on a thread that is at the place. Sockets that f opens stay there.
func (p place) do(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		file, err := os.Open(string(p))
		if err == nil {
			defer func() { _ = file.Close() }()
			err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		result <- err
	}()
	return <-result
}

// serve says one byte to whoever connects to a port there.
func (p place) serve(port uint16, says byte) (stop func(), err error) {
	var listener net.Listener
	if err := p.do(func() (err error) {
		listener, err = net.Listen("tcp4", fmt.Sprintf(":%d", port))
		return err
	}); err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // It is closed.
			}
			_, _ = conn.Write([]byte{says}) // who asks may be gone
			_ = conn.Close()
		}
	}()
	return func() { _ = listener.Close() }, nil
}

const (
	// every is how often somebody connects anew, and so the grain of what is measured.
	every = 5 * time.Millisecond
	// waiting is for how many connections at once somebody waits.
	waiting = 40
)

// ask connects from the place to an address again and again until the right one answers, and
// tells when that was.
func (p place) ask(address netip.AddrPort, who byte) (at time.Time, err error) {
	return p.askFor(limit, address, who)
}

// askFor is ask that gives up after a while.
func (p place) askFor(most time.Duration, address netip.AddrPort, who byte) (at time.Time, err error) {
	err = p.do(func() (err error) {
		at, err = ask(most, &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}, who)
		return err
	})
	if err != nil {
		err = fmt.Errorf("ask %s: %w", address, err)
	}
	return at, err
}

func ask(most time.Duration, address unix.Sockaddr, who byte) (time.Time, error) {
	var open []unix.PollFd
	defer func() {
		for _, conn := range open {
			_ = unix.Close(int(conn.Fd))
		}
	}()
	end, next := time.Now().Add(most), time.Now()
	for time.Now().Before(end) {
		if now := time.Now(); !now.Before(next) {
			next = now.Add(every)
			if len(open) == waiting {
				_ = unix.Close(int(open[0].Fd))
				open = open[1:]
			}
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return time.Time{}, err
			}
			if err := unix.Connect(fd, address); err == nil || errors.Is(err, unix.EINPROGRESS) {
				open = append(open, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
			} else {
				_ = unix.Close(fd) // There is no way there yet.
			}
		}
		if _, err := unix.Poll(open, int(every.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
			return time.Time{}, err
		}
		at, waits := time.Now(), open[:0]
		for i, conn := range open {
			if conn.Revents == 0 {
				waits = append(waits, conn)
				continue
			}
			said := make([]byte, 1)
			n, err := unix.Read(int(conn.Fd), said)
			_ = unix.Close(int(conn.Fd))
			if err == nil && n == 1 && said[0] == who {
				open = append(waits, open[i+1:]...)
				return at, nil
			}
		}
		open = waits
	}
	return time.Time{}, errors.New("the right one never answered")
}
