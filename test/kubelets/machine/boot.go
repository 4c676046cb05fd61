package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// readyFD is where the first process says that the machine is booted, or why not.
	readyFD    = 3
	bootedWord = "booted"
)

// bootOrder is what the first process is told.
type bootOrder struct {
	Config      Config
	Dir         string
	Hierarchies []hierarchy
}

// wantedByKubelets are settings of the kernel that a kubelet makes unless they are so.
// The kernel is the host's: on the machine these files are others.
var wantedByKubelets = map[string]string{
	"vm/overcommit_memory": "1", "vm/panic_on_oom": "0",
	"kernel/panic": "10", "kernel/panic_on_oops": "1",
	"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
}

// networkSettings are what a node's administrator sets, for the machine's network
// alone. IPv6 is not part of the pod network, and its announcements are noise.
var networkSettings = map[string]string{
	"ipv4/ip_forward": "1", "ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0",
	"ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1",
}

// runInit is a machine's first process: it mounts, and then buries orphans for ever.
func runInit(argument string) error {
	ready := os.NewFile(readyFD, "ready")
	var order bootOrder
	err := json.Unmarshal([]byte(argument), &order)
	if err == nil {
		err = order.boot()
	}
	if err != nil {
		fmt.Fprintln(ready, err)
		return err
	}
	fmt.Fprintln(ready, bootedWord)
	_ = ready.Close()
	bury()
	return nil
}

func (o bootOrder) boot() error {
	// Otherwise what is mounted here would appear on the host.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root := filepath.Join(o.Dir, "root")
	for _, step := range []func(root string) error{
		o.mountRoot, o.mountKernel, mountCgroups(o.Hierarchies), o.mountOwn, hideSettings,
	} {
		if err := step(root); err != nil {
			return err
		}
	}
	// The way to the host's files ends here.
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the host's root: %w", err)
	}
	// Kubelets and runtimes expect that mounts spread to containers.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make mounts shared: %w", err)
	}
	if err := unix.Sethostname([]byte(o.Config.Name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	for name, value := range networkSettings {
		err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6
			return err
		}
	}
	return nil
}

// mount mounts a file system at a directory that is made if it is not there.
func mount(source, target, kind string, flags uintptr, options string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, kind, flags, options); err != nil {
		return fmt.Errorf("mount %s at %s: %w", source, target, err)
	}
	return nil
}

// mountRoot mounts the host's files below a layer in memory.
func (o bootOrder) mountRoot(root string) error {
	layer := filepath.Join(o.Dir, "layer")
	if err := mount("tmpfs", layer, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	upper, work := filepath.Join(layer, "upper"), filepath.Join(layer, "work")
	for _, dir := range []string{upper, work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	return mount("overlay", root, "overlay", 0, "lowerdir=/,upperdir="+upper+",workdir="+work)
}

// mountKernel mounts what is the kernel's.
func (o bootOrder) mountKernel(root string) error {
	const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	return errors.Join(
		mount("proc", root+"/proc", "proc", quiet, ""),
		mount("sysfs", root+"/sys", "sysfs", quiet, ""),
		mount("/dev", root+"/dev", "", unix.MS_BIND|unix.MS_REC, ""),
		mount("tmpfs", root+"/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, ""),
	)
}

// mountCgroups mounts the hierarchies, whose roots are the machine's cgroups.
func mountCgroups(hierarchies []hierarchy) func(string) error {
	return func(root string) error {
		if err := mount("tmpfs", root+"/sys/fs/cgroup", "tmpfs", 0, "mode=0755"); err != nil {
			return err
		}
		for _, h := range hierarchies {
			options := h.Options
			if strings.HasPrefix(options, "name=") {
				options = "none," + options
			}
			if err := mount("cgroup", filepath.Join(root, h.Point), "cgroup", 0, options); err != nil {
				return err
			}
		}
		return nil
	}
}

// mountOwn mounts what is the machine's own, and the files that it is given.
func (o bootOrder) mountOwn(root string) error {
	for _, dir := range []string{"run", "tmp", "etc/cni", "opt"} {
		if err := mount("tmpfs", filepath.Join(root, dir), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
			return err
		}
	}
	for i, dir := range o.Config.Disks {
		source := filepath.Join(o.Dir, fmt.Sprintf("disk%d", i))
		if err := os.Mkdir(source, 0o711); err != nil {
			return err
		}
		if err := mount(source, filepath.Join(root, dir), "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	for file, source := range o.Config.Files {
		source, err := filepath.EvalSymlinks(source)
		if err != nil {
			return err
		}
		if err := mountFile(source, filepath.Join(root, file)); err != nil {
			return err
		}
	}
	return nil
}

// mountFile puts a file in the place of another, or of none.
func mountFile(source, target string) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o755)
	if err != nil {
		return err
	}
	_ = file.Close()
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s at %s: %w", source, target, err)
	}
	return nil
}

// hideSettings puts files with the values that kubelets want over the kernel's.
func hideSettings(root string) error {
	dir := filepath.Join(root, "run/settings")
	for name, value := range wantedByKubelets {
		source := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(source), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(source, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(source, filepath.Join(root, "proc/sys", name), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("hide setting %s: %w", name, err)
		}
	}
	return nil
}

// bury waits for children that others left behind.
func bury() {
	news := make(chan os.Signal, 1)
	signal.Notify(news, unix.SIGCHLD)
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
