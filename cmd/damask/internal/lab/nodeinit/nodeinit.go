// Package nodeinit is the first process of a node of a lab.
//
// It owns the node's mounts: a private /run, so that sockets, locks and named
// network namespaces are the node's own, and /proc and /sys as the node sees
// them. It promises that the end of the process is the end of everything on the
// node: it is process 1 of the node's PID namespace. It must do nothing else, so
// that it cannot fail while the node is up.
package nodeinit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/underlay"
)

// Ready is the file descriptor on which Run writes one line when the node is
// booted: "ok", or why it is not.
const Ready = 3

// Run boots the node of that name and then buries its orphans for ever. It expects
// to be process 1 in PID, mount, network and UTS namespaces of its own.
func Run(name string) error {
	ready := os.NewFile(Ready, "ready")
	if ready == nil || os.Getpid() != 1 {
		return errors.New("this is the first process of a lab's node: `damask lab up` starts it")
	}
	if err := boot(name); err != nil {
		fmt.Fprintln(ready, err)
		return err
	}
	fmt.Fprintln(ready, "ok")
	ready.Close()
	bury()
	return nil
}

func boot(name string) error {
	if err := PrivateRun(); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	// Only to look at; a container that forbids it still runs a lab.
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("mount /sys: %w", err)
	}
	// 64 is the kernel's limit for host names.
	if err := unix.Sethostname([]byte(name[:min(len(name), 64)])); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if err := underlay.LoopbackUp(""); err != nil {
		return err
	}
	return sysctls()
}

// PrivateRun cuts the caller's mount namespace off from the host's and gives it an
// empty /run.
func PrivateRun() error {
	// Otherwise what is mounted here would appear on the host.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	for _, dir := range []string{"netns", "openvswitch", "damask", "lock"} {
		if err := os.Mkdir(filepath.Join("/run", dir), 0o755); err != nil {
			return err
		}
	}
	// Debian's /var/run is a link to /run; where it is not, make it one place.
	if target, err := filepath.EvalSymlinks("/var/run"); err == nil && target != "/run" {
		if err := unix.Mount("/run", "/var/run", "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount /var/run: %w", err)
		}
	}
	return nil
}

// sysctls sets what a node's administrator would: new network namespaces inherit
// some of these from the host, and a lab must not depend on it.
func sysctls() error {
	for _, setting := range []struct{ name, value string }{
		{"ipv4/ip_forward", "1"},
		{"ipv4/conf/all/rp_filter", "0"},
		{"ipv4/conf/default/rp_filter", "0"},
		// IPv6 is not part of the pod network yet, and its announcements are noise.
		{"ipv6/conf/all/disable_ipv6", "1"},
		{"ipv6/conf/default/disable_ipv6", "1"},
	} {
		err := os.WriteFile("/proc/sys/net/"+setting.name, []byte(setting.value), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6
			return fmt.Errorf("set %s: %w", setting.name, err)
		}
	}
	return nil
}

// bury waits for children that others left behind.
func bury() {
	news := make(chan os.Signal, 1)
	signal.Notify(news, unix.SIGCHLD)
	// An orderly stop of a node is not a thing: it is cut off or it runs.
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	for range news {
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if err == unix.EINTR {
				continue
			}
			if err != nil || pid == 0 {
				break
			}
		}
	}
}
