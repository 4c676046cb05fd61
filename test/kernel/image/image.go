// Package image makes what the virtual machine boots: a Debian kernel, its modules
// and a root file system of one program.
//
// It owns a directory in the cache, which holds what it has unpacked. It promises
// that nothing is installed and that a kernel is downloaded once; a cache that an
// interruption left half-made is not used. It must not start anything but the tools
// that it needs.
package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// metapackage is the Debian package that depends on the newest kernel. The "cloud"
// flavour will not do: it has no 9p, by which the machine reads the host's files.
const metapackage = "linux-image-amd64"

// Kernel is an unpacked kernel.
type Kernel struct {
	// Version is the kernel's own, as uname -r prints it.
	Version string
	// Boot is the path of what qemu starts.
	Boot string
	// Modules is the directory with usr/lib/modules/Version.
	Modules string
}

// readyFile is written last, and tells that the directory is whole.
const readyFile = "ready"

// Find returns the newest kernel in the cache, or downloads and unpacks the one
// that the distribution has now. say is told about what takes time.
func Find(ctx context.Context, cache string, say func(string)) (*Kernel, error) {
	ready, err := filepath.Glob(filepath.Join(cache, "*", readyFile))
	if err != nil {
		return nil, err
	}
	if len(ready) > 0 {
		return at(filepath.Dir(slices.Max(ready))), nil
	}
	version, err := newest(ctx)
	if err != nil {
		return nil, err
	}
	say("downloading the kernel " + version + " (once)")
	dir := filepath.Join(cache, version)
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	kernel := at(dir)
	if err := fetch(ctx, kernel, dir); err != nil {
		return nil, fmt.Errorf("prepare kernel %s: %w", version, err)
	}
	return kernel, os.WriteFile(filepath.Join(dir, readyFile), nil, 0o644)
}

func at(dir string) *Kernel {
	return &Kernel{Version: filepath.Base(dir), Boot: filepath.Join(dir, "vmlinux"), Modules: filepath.Join(dir, "root")}
}

// newest answers the version of the kernel that the metapackage means.
func newest(ctx context.Context) (string, error) {
	for attempt := 0; ; attempt++ {
		out, err := output(ctx, "", "apt-cache", "depends", "--important", metapackage)
		if err != nil && attempt > 0 {
			return "", err
		}
		for line := range strings.Lines(string(out)) {
			if _, version, found := strings.Cut(strings.TrimSpace(line), "Depends: linux-image-"); found {
				return version, nil
			}
		}
		if attempt > 0 {
			return "", fmt.Errorf("the package archive has no %s: is this Debian on amd64?", metapackage)
		}
		// A fresh container has no package lists.
		if _, err := output(ctx, "", "apt-get", "update"); err != nil {
			return "", err
		}
	}
}

// fetch downloads the package and takes from it what is needed.
func fetch(ctx context.Context, kernel *Kernel, dir string) error {
	// As root: apt's own user may not write here.
	if _, err := output(ctx, dir, "apt-get", "-o", "APT::Sandbox::User=root", "download", "linux-image-"+kernel.Version); err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(packages) != 1 {
		return errors.Join(fmt.Errorf("apt-get download left %d packages in %s", len(packages), dir), err)
	}
	if err := unpack(ctx, packages[0], kernel, dir); err != nil {
		return err
	}
	if _, err := output(ctx, "", "depmod", "--basedir", filepath.Join(kernel.Modules, "usr"), kernel.Version); err != nil {
		return err
	}
	return os.Remove(packages[0])
}

// output runs a tool and answers its standard output.
func output(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	switch err := cmd.Run(); {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s is not installed: `tools/install-packages.sh kernel` installs what is missing", name)
	case err != nil:
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}
