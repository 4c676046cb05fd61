// Package debian takes files out of Debian packages.
//
// It owns the choice of files, asks apt for the packages, and says with the files which
// packages they are from and under which licence. It promises that every library that
// the files need is among them. It installs nothing.
//
// Used by images.
package debian

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/damask-sdn/damask/deploy/images/fileset"
)

// Choice is a choice of files from Debian packages.
type Choice struct {
	// Packages are where the files, and the libraries that they need, come from.
	Packages []string
	// Take are the files: patterns of path.Match, without the leading slash and with
	// everything below /usr, as Debian has it since its release 12.
	Take []string
	// Links are symbolic links besides: what Debian leaves to update-alternatives.
	Links map[string]string
}

// merged is how /usr is all that there is, and older paths go on.
var merged = fileset.Set{
	"bin": {Target: "usr/bin"}, "sbin": {Target: "usr/sbin"}, "lib": {Target: "usr/lib"}, "lib64": {Target: "usr/lib64"},
}

// archive is a set of Debian packages, unpacked.
type archive struct {
	files   fileset.Set
	origin  map[string]string // of each file: its package
	control map[string][]byte // of each package: what dpkg knows about it
}

// Files answers what the choice says, with libraries, licences and the packages'
// control data, from packages that are kept in a directory.
func (c Choice) Files(directory string) (fileset.Set, error) {
	a, err := fetch(directory, c.Packages)
	if err != nil {
		return nil, err
	}
	files := maps.Clone(merged)
	chosen := fileset.Set{}
	for _, pattern := range c.Take {
		found := false
		for name, f := range a.files {
			if match, err := path.Match(pattern, name); err != nil {
				return nil, fmt.Errorf("%s: %w", pattern, err)
			} else if match {
				chosen[name], found = f, true
			}
		}
		if !found {
			return nil, fmt.Errorf("no package of the image has %s", pattern)
		}
	}
	for name, target := range c.Links {
		chosen[name] = fileset.File{Target: target}
	}
	if err := fileset.WithLibraries(chosen, a.files); err != nil {
		return nil, err
	}
	for name, f := range chosen {
		files[name] = f
		if from, ok := a.origin[name]; ok {
			a.describe(files, from)
		}
	}
	return files, nil
}

// describe adds what says which package is in the image and under which licence. The
// place is where scanners for known weaknesses look in images without dpkg.
func (a *archive) describe(files fileset.Set, name string) {
	files["var/lib/dpkg/status.d/"+name] = fileset.File{Content: a.control[name], Mode: 0o644}
	// Some packages share another's file by a link.
	copyright := path.Join("usr/share/doc", name, "copyright")
	if at, ok := a.files.Follow(copyright); ok {
		files[copyright] = a.files[at]
	}
}

// fetch downloads packages as apt is configured, unless they are there already, and
// unpacks them. Which version that is, Debian decides: its security updates are to
// be in an image that is built after them.
func fetch(directory string, packages []string) (*archive, error) {
	names, err := candidates(directory, packages)
	if err != nil {
		// A machine that never asked Debian knows no packages.
		if update, updateErr := output(exec.Command("apt-get", "-q", "update")); updateErr != nil {
			return nil, errors.Join(err, fmt.Errorf("apt-get update: %w: %s", updateErr, update))
		}
		if names, err = candidates(directory, packages); err != nil {
			return nil, err
		}
	}
	var missing []string
	for i, name := range names {
		if _, err := os.Stat(filepath.Join(directory, name)); err != nil {
			missing = append(missing, packages[i])
		}
	}
	if len(missing) > 0 {
		download := exec.Command("apt-get", append([]string{"-q", "download"}, missing...)...)
		download.Dir = directory
		if _, err := output(download); err != nil {
			return nil, fmt.Errorf("download %s: %w", strings.Join(missing, ", "), err)
		}
	}
	a := &archive{fileset.Set{}, map[string]string{}, map[string][]byte{}}
	for i, name := range names {
		if err := a.unpack(packages[i], filepath.Join(directory, name)); err != nil {
			return nil, fmt.Errorf("unpack %s: %w", name, err)
		}
	}
	return a, nil
}

// candidates answers the file of each package that apt would install now.
func candidates(directory string, packages []string) ([]string, error) {
	// Only for packages of which there is no file apt prints a line, in its own order,
	// so it is asked where there is none.
	nowhere, err := os.MkdirTemp(directory, ".ask")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(nowhere)
	ask := exec.Command("apt-get", append([]string{"-q", "download", "--print-uris"}, packages...)...)
	ask.Dir = nowhere
	lines, err := output(ask)
	if err != nil {
		return nil, fmt.Errorf("ask apt for %s: %w", strings.Join(packages, ", "), err)
	}
	files := make([]string, len(packages))
	for line := range strings.Lines(string(lines)) {
		fields := strings.Fields(line) // 'URI' FILE SIZE HASH
		if len(fields) < 2 {
			continue
		}
		if i := slices.Index(packages, strings.Split(fields[1], "_")[0]); i >= 0 {
			files[i] = fields[1]
		}
	}
	if i := slices.Index(files, ""); i >= 0 {
		return nil, fmt.Errorf("apt knows no package %s", packages[i])
	}
	return files, nil
}

// unpack adds a package's files.
func (a *archive) unpack(name, deb string) error {
	control, err := output(exec.Command("dpkg-deb", "-f", deb))
	if err != nil {
		return err
	}
	content, err := output(exec.Command("dpkg-deb", "--fsys-tarfile", deb))
	if err != nil {
		return err
	}
	files := fileset.Set{}
	if err := files.ReadTar(bytes.NewReader(content), fileset.BelowUsr); err != nil {
		return err
	}
	for path, f := range files {
		a.files[path], a.origin[path] = f, name
	}
	a.control[name] = control
	return nil
}

// output runs a command; an error says what it said.
func output(cmd *exec.Cmd) ([]byte, error) {
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", cmd.Args[0], err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}
