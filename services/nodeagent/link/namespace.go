package link

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ownNamespace is the namespace of the calling thread; /proc/self would be that of
// the process's first thread.
const ownNamespace = "/proc/thread-self/ns/net"

// errNotNamespace is a path that names something else.
var errNotNamespace = errors.New("not a network namespace")

// openNamespace opens a network namespace by path, and makes sure that it is one.
func openNamespace(path string) (*os.File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	// The kernel answers which kind of namespace a descriptor is, and refuses others.
	kind, err := unix.IoctlRetInt(int(file.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		_ = file.Close()
		return nil, fmt.Errorf("%s: %w", path, errNotNamespace)
	}
	return file, nil
}

// sameNamespace says whether two open namespaces are one.
func sameNamespace(a, b *os.File) (bool, error) {
	x, err := a.Stat()
	if err != nil {
		return false, err
	}
	y, err := b.Stat()
	if err != nil {
		return false, err
	}
	return os.SameFile(x, y), nil
}

// within runs fn on a thread that is in namespace, and takes the thread back home.
// Sockets that fn opens stay in the namespace wherever they are used later. When the
// way home is barred, the goroutine keeps the thread and ends with it, so that no
// other goroutine ever finds itself in a pod.
func within(namespace *os.File, fn func() error) error {
	result := make(chan error, 1)
	go func() { result <- enter(namespace, fn) }()
	return <-result
}

func enter(namespace *os.File, fn func() error) error {
	runtime.LockOSThread()
	home, err := os.Open(ownNamespace)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer home.Close()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace: %w", err)
	}
	done := fn()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		return errors.Join(done, fmt.Errorf("leave network namespace: %w", err))
	}
	runtime.UnlockOSThread()
	return done
}
