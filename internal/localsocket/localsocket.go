// Package localsocket listens on unix sockets whose file mode is their lock.
//
// It promises that a socket is never reachable with a wider mode than asked for,
// that what a dead process left behind is replaced, that a living one is left
// alone, and that only a listener's own file is removed when it closes. It must
// not know what is spoken on a socket.
//
// Used by rpcserve, and by the node agent for the CNI plugin.
package localsocket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Listener removes its socket file when it is closed, unless another process has
// put its own in place since. The connections that it accepts are *net.UnixConn.
type Listener struct {
	*net.UnixListener
	path string
	own  fs.FileInfo
	once sync.Once
	err  error // of the first Close
}

// Listen listens on a unix socket with a file mode, such as 0600. A socket file
// that a dead process left behind is replaced; one that somebody answers on is an
// error. The directory is made if need be.
func Listen(path string, mode fs.FileMode) (*Listener, error) {
	l, err := listen(path, mode)
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	return l, nil
}

// listen binds under another name and renames, so that the socket is never
// reachable with the mode that it is born with.
func listen(path string, mode fs.FileMode) (*Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := refuseLiving(path); err != nil {
		return nil, err
	}
	temp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	unix, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	unix.SetUnlinkOnClose(false) // it would remove the name that it was bound by
	info, err := publish(temp, path, mode)
	if err != nil {
		_ = unix.Close()
		return nil, errors.Join(err, os.Remove(temp))
	}
	return &Listener{UnixListener: unix, path: path, own: info}, nil
}

func publish(temp, path string, mode fs.FileMode) (fs.FileInfo, error) {
	if err := os.Chmod(temp, mode); err != nil {
		return nil, err
	}
	info, err := os.Stat(temp)
	if err != nil {
		return nil, err
	}
	return info, os.Rename(temp, path)
}

// refuseLiving answers an error when somebody serves the socket, or when the
// path is something else than a socket.
func refuseLiving(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("a file that is not a socket is in its place")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return nil // nobody answers
	}
	_ = conn.Close()
	return errors.New("another process serves it")
}

// Addr names the path that clients use, not the one of the first bind.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops listening. Once only: later another process's socket could have
// the same inode.
func (l *Listener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.own) {
			_ = os.Remove(l.path)
		}
		l.err = l.UnixListener.Close()
	})
	return l.err
}
