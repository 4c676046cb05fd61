package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/test/kernel/control"
)

// Where the parts of the root are mounted before they are put together.
const (
	// near is in the initramfs: files that lie over the host's.
	near    = "/near"
	lower   = "/lower"
	scratch = "/scratch"
	newRoot = "/new"
)

// enterRoot makes the host's files, with those of the initramfs over them and a
// scratch layer above, the root of this process and all that it starts.
func enterRoot(job control.Job) error {
	// The host's files are taken to stand still, which lets this kernel cache them:
	// every program is read from there.
	const plan9 = "trans=virtio,version=9p2000.L,access=any,msize=512000,cache=loose"
	if err := mount(control.RootTag, lower, "9p", unix.MS_RDONLY, plan9); err != nil {
		return err
	}
	if err := mount("scratch", scratch, "tmpfs", 0, "mode=755,size=75%"); err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(scratch+"/upper", 0o755), os.Mkdir(scratch+"/work", 0o755)); err != nil {
		return err
	}
	for _, path := range job.Hide {
		if err := hide(scratch+"/upper", path); err != nil {
			return err
		}
	}
	layers := fmt.Sprintf("lowerdir=%s:%s,upperdir=%s/upper,workdir=%s/work", near, lower, scratch, scratch)
	if err := mount("root", newRoot, "overlay", 0, layers); err != nil {
		return err
	}
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		if err := mount(dir, newRoot+dir, "", unix.MS_MOVE, ""); err != nil {
			return err
		}
	}
	if err := os.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return furnish()
}

// hide makes a path of the lower layers disappear, by what overlayfs calls a
// whiteout: a character device with the number 0/0.
func hide(upper, path string) error {
	place := filepath.Join(upper, path)
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		return err
	}
	if err := unix.Mknod(place, unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("hide %s: %w", path, err)
	}
	return nil
}

// furnish adds what a machine has besides files.
func furnish() error {
	for _, m := range []struct{ kind, on, options string }{
		{"tmpfs", "/run", "mode=755"}, {"tmpfs", "/dev/shm", "mode=1777"}, {"devpts", "/dev/pts", "ptmxmode=666"},
		{"cgroup2", "/sys/fs/cgroup", ""}, {"bpf", "/sys/fs/bpf", ""},
	} {
		if err := mount(m.kind, m.on, m.kind, 0, m.options); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/run/netns", "/run/lock", "/run/openvswitch"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, link := range []struct{ to, name string }{
		{"/proc/self/fd", "/dev/fd"}, {"fd/0", "/dev/stdin"}, {"fd/1", "/dev/stdout"}, {"fd/2", "/dev/stderr"},
	} {
		if err := os.Symlink(link.to, link.name); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return unix.Sethostname([]byte("damask-vm"))
}
