// Package netnstest makes fresh network namespaces for tests.
//
// A namespace made here has no name in the file system: it is held open by a file
// descriptor of the test process and by whatever runs in it. So it vanishes with
// the test, also when the test process is killed, and nothing is left to clean up.
//
// It must never touch the network namespace that the test was started in.
// Used by ovstest and by the tests of link, bridge, masquerade and attach.
package netnstest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/internal/proctest"
)

// ownNetns names the namespace of the calling thread. /proc/self would name the
// one of the process's first thread.
const ownNetns = "/proc/thread-self/ns/net"

// Namespace is a network namespace that lives until the test ends.
type Namespace struct {
	name string
	file *os.File
}

// New makes a network namespace with lo up. The name is only for messages. The
// namespace is let go at the end of the test; the kernel removes it when the last
// program in it has ended.
func New(t testing.TB, name string) *Namespace {
	t.Helper()
	proctest.Need(t, "ip", "nsenter")
	type result struct {
		file *os.File
		err  error
	}
	made := make(chan result, 1)
	go func() {
		file, err := create()
		made <- result{file, err}
	}()
	r := <-made
	if r.err != nil {
		t.Fatalf("make network namespace %s: %v", name, r.err)
	}
	ns := &Namespace{name: name, file: r.file}
	t.Cleanup(func() { _ = ns.file.Close() })
	ns.Run(t, "ip", "link", "set", "lo", "up")
	return ns
}

// create makes a namespace on a thread of its own and takes the thread back home.
// When the way home is barred the thread stays locked, and ends with the goroutine.
func create() (*os.File, error) {
	runtime.LockOSThread()
	home, err := os.Open(ownNetns)
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("unshare: %w", err)
	}
	file, openErr := os.Open(ownNetns)
	if err := enter(home); err != nil {
		return nil, fmt.Errorf("return to the first namespace: %w", err)
	}
	runtime.UnlockOSThread()
	return file, openErr
}

// enter moves the calling thread, which must be locked.
func enter(file *os.File) error {
	return unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
}

// Name is the name given to New.
func (ns *Namespace) Name() string { return ns.name }

// Path is a path that other programs can open while the test process lives, as a
// CNI plugin does with CNI_NETNS and `ip link set … netns PATH` with its argument.
func (ns *Namespace) Path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.file.Fd())
}

// File is the open namespace, for calls that take a descriptor. Do not close it.
func (ns *Namespace) File() *os.File { return ns.file }

// Do runs fn in the namespace, on the calling goroutine: fn may fail the test.
// Goroutines that fn starts run on other threads, so outside of the namespace.
// Sockets that fn opens stay in the namespace wherever they are used later.
func (ns *Namespace) Do(t testing.TB, fn func()) {
	t.Helper()
	runtime.LockOSThread()
	home, err := os.Open(ownNetns)
	if err != nil {
		runtime.UnlockOSThread()
		t.Fatalf("open own network namespace: %v", err)
	}
	if err := enter(ns.file); err != nil {
		runtime.UnlockOSThread()
		_ = home.Close()
		t.Fatalf("enter network namespace %s: %v", ns.name, err)
	}
	defer func() {
		// Left locked on an error: the thread must not serve other goroutines.
		if err := enter(home); err != nil {
			t.Errorf("leave network namespace %s: %v", ns.name, err)
		} else {
			runtime.UnlockOSThread()
		}
		_ = home.Close()
	}()
	fn()
}

// Dial connects from the namespace to an address whose host is a number: names are nothing
// of a namespace's. Unlike Do it never ends the test, so any goroutine may call it.
func (ns *Namespace) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, err
	}
	type result struct {
		conn net.Conn
		err  error
	}
	dialed := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var r result
		if r.err = enter(ns.file); r.err == nil {
			var dialer net.Dialer
			r.conn, r.err = dialer.DialContext(ctx, network, address)
		}
		dialed <- r
	}()
	r := <-dialed
	return r.conn, r.err
}

// Command is a command that will run in the namespace, with nothing started yet.
// The process that it becomes is the program itself: signals reach it.
func (ns *Namespace) Command(program string, args ...string) *exec.Cmd {
	inside := append([]string{"--net=" + ns.Path(), "--", program}, args...)
	return exec.Command("nsenter", inside...)
}

// Run runs a command in the namespace to its end and returns its standard output.
// It fails the test, with all that the command said, when the command fails.
func (ns *Namespace) Run(t testing.TB, program string, args ...string) string {
	t.Helper()
	cmd := ns.Command(program, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("in %s: %s %s: %v\n%s%s", ns.name, program, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// Start starts a program in the namespace that runs until the test ends.
func (ns *Namespace) Start(t testing.TB, program string, args ...string) *proctest.Process {
	t.Helper()
	return proctest.Start(t, ns.Command(program, args...))
}

// Connect joins two namespaces with a veth pair: interface a in this one and
// interface b in the other. Both ends are left down and without an address.
func (ns *Namespace) Connect(t testing.TB, a string, other *Namespace, b string) {
	t.Helper()
	ns.Run(t, "ip", "link", "add", a, "type", "veth", "peer", "name", b, "netns", other.Path())
}
