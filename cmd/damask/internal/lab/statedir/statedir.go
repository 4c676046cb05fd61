// Package statedir is the directory of one lab on the host: its only trace there.
//
// It owns the paths in it and the lock that tells a lab that runs from the
// remains of one that crashed. It promises that a lock is held exactly as long
// as a process of the lab lives. It must not know what the files mean.
package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Root holds the directories of all labs. Root's alone, because the keys of the
// labs' certificates are in it, and on a disk, because stores and logs grow.
const Root = "/var/lib/damask-lab"

// Dir is the directory of one lab.
type Dir string

// namePattern keeps names fit for a directory and short enough for the path of a
// unix socket (107 bytes).
var namePattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$`)

// Of returns the directory of the lab with that name, which need not exist.
func Of(name string) (Dir, error) {
	if !namePattern.MatchString(name) {
		return "", fmt.Errorf("%q cannot name a lab: small letters, digits and '-', at most 32", name)
	}
	return Dir(filepath.Join(Root, name)), nil
}

// Name is the lab's name.
func (d Dir) Name() string { return filepath.Base(string(d)) }

// Path is a path in the directory.
func (d Dir) Path(parts ...string) string {
	return filepath.Join(append([]string{string(d)}, parts...)...)
}

// Topology is the file that the lab was built from.
func (d Dir) Topology() string { return d.Path("topology.yaml") }

// Socket is the supervisor's unix socket.
func (d Dir) Socket() string { return d.Path("control.sock") }

// Log is the log file of a process of the lab.
func (d Dir) Log(name string) string { return d.Path("logs", name+".log") }

// Disk is the directory of what outlives a power failure of a node.
func (d Dir) Disk(node string) string { return d.Path("nodes", node) }

// Identity is the directory of a certificate with its key.
func (d Dir) Identity(name string) string { return d.Path("identities", name) }

// pidFile holds the process id of the lab's first process. Its lock is the lab's.
func (d Dir) pidFile() string { return d.Path("supervisor.pid") }

// ErrRunning is what Create answers while a lab of the name runs.
var ErrRunning = errors.New("it is running")

// Create makes the directory, empty, and returns its lock: a file that has to
// stay open, in this process or in one that inherits it, as long as the lab
// lives. What a crashed lab left in it is removed; stale tells whether there was
// any.
func (d Dir) Create() (lock *os.File, stale bool, err error) {
	err = d.make()
	if errors.Is(err, fs.ErrExist) {
		if stale, err = d.removeStale(); err == nil {
			err = d.make()
		}
	}
	if errors.Is(err, fs.ErrExist) {
		// Another `up` came in between.
		return nil, stale, ErrRunning
	}
	if err != nil {
		return nil, stale, err
	}
	lock, err = os.OpenFile(d.pidFile(), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		// Another `up` won.
		return nil, stale, fmt.Errorf("%w: %w", ErrRunning, err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, stale, errors.Join(ErrRunning, lock.Close())
	}
	return lock, stale, nil
}

// make makes the directory, which must not exist. The last lab that ends takes the
// root of all with it, perhaps just now: hence some tries.
func (d Dir) make() error {
	var err error
	for range 10 {
		if err = os.MkdirAll(Root, 0o700); err != nil {
			return err
		}
		if err = os.Mkdir(string(d), 0o700); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

// removeStale removes the directory unless a lab lives in it.
func (d Dir) removeStale() (bool, error) {
	file, err := os.Open(d.pidFile())
	if errors.Is(err, fs.ErrNotExist) {
		return true, d.Remove()
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return false, ErrRunning
	}
	return true, d.Remove()
}

// Exists tells whether there is a directory, of a running lab or a crashed one.
func (d Dir) Exists() bool {
	_, err := os.Stat(string(d))
	return err == nil
}

// Running tells whether a process of the lab lives.
func (d Dir) Running() bool {
	file, err := os.Open(d.pidFile())
	if err != nil {
		return false
	}
	defer file.Close()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return true
	}
	return false
}

// WritePID notes the first process of the lab: killing it ends the lab.
func (d Dir) WritePID(lock *os.File, pid int) error {
	_, err := fmt.Fprintf(lock, "%d\n", pid)
	return err
}

// PID is the first process of a lab that runs.
func (d Dir) PID() (int, error) {
	text, err := os.ReadFile(d.pidFile())
	if err != nil {
		return 0, err
	}
	var pid int
	if _, err := fmt.Sscan(strings.TrimSpace(string(text)), &pid); err != nil {
		return 0, fmt.Errorf("read %s: %w", d.pidFile(), err)
	}
	return pid, nil
}

// Remove removes the directory, and that of all labs when this was the last.
func (d Dir) Remove() error {
	if err := os.RemoveAll(string(d)); err != nil {
		return err
	}
	if err := os.Remove(Root); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	return nil
}

// Names are the labs that have a directory.
func Names() ([]string, error) {
	entries, err := os.ReadDir(Root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}
