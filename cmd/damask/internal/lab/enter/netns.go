package enter

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Directory is where `ip netns` and container runtimes keep named network
// namespaces. A lab's are on a private /run, so the name is free for every node.
const Directory = "/run/netns"

// NetPath is the path of a named network namespace, in the mount namespace that
// it was made in.
func NetPath(name string) string { return filepath.Join(Directory, name) }

// NewNet makes a network namespace with its loopback interface still down, and
// names it in the mount namespace given by its path (empty: the caller's).
func NewNet(mount, name string) error {
	err := Do(Namespaces{}, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_FS); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		// The mount is made here and only put into place after the move: there, the
		// files of this thread in /proc may not exist.
		tree, err := unix.OpenTree(unix.AT_FDCWD, "/proc/thread-self/ns/net", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("make a mount of the network namespace: %w", err)
		}
		defer unix.Close(tree)
		return doHere(Namespaces{Mount: mount}, func() error { return place(tree, NetPath(name)) })
	})
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	return nil
}

// place mounts the detached tree on a new file.
func place(tree int, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	file.Close()
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return errors.Join(fmt.Errorf("mount on %s: %w", path, err), os.Remove(path))
	}
	return nil
}

// RemoveNet takes the name of a network namespace away; the namespace goes with
// its last process. It is no error when there is no such name.
func RemoveNet(mount, name string) error {
	return Do(Namespaces{Mount: mount}, func() error {
		path := NetPath(name)
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}
