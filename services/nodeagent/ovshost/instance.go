package ovshost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// Each daemon of Open vSwitch holds a POSIX lock on its pid file as long as it lives.
// That tells a living one from a file that a dead one left, over the borders of
// containers, and the kernel says when it ends: nobody has to ask again and again.

// own takes the place of the one instance of ours that runs in a directory, and waits
// for it. The place is free again when the file that it answers is closed.
func own(ctx context.Context, runDir string, log hclog.Logger) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(runDir, "damask-ovs.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(ctx, f, unix.F_WRLCK, func() {
		log.Info("another instance runs Open vSwitch; waiting until it is gone", "lock", f.Name())
	}); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return f, nil
}

// awaitFree waits until no living daemon has a pid file.
func awaitFree(ctx context.Context, pidfile string, log hclog.Logger) error {
	for {
		f, err := os.Open(pidfile)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		err = lock(ctx, f, unix.F_RDLCK, func() {
			log.Info("a daemon that is not ours runs; waiting until it is gone", "pidfile", pidfile)
		})
		same := err == nil && stillThere(f, pidfile)
		err = errors.Join(err, f.Close())
		if err != nil || same {
			return err
		}
	}
}

// stillThere tells whether a path leads to an open file: a daemon that was started
// again has another one there.
func stillThere(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	present, err := os.Stat(path)
	return errors.Is(err, os.ErrNotExist) || err == nil && os.SameFile(opened, present)
}

// lock locks a file, and calls held first if it has to wait. The wait for a lock cannot
// be called off, so its thread stays in it until the process ends when ctx ends before.
func lock(ctx context.Context, f *os.File, kind int16, held func()) error {
	whole := &unix.Flock_t{Type: kind, Whence: unix.SEEK_SET}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, whole)
	if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
		return err
	}
	held()
	// A file of its own: the caller closes f when ctx ends.
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		for {
			err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLKW, whole)
			if !errors.Is(err, unix.EINTR) {
				done <- errors.Join(err, unix.Close(fd))
				return
			}
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
