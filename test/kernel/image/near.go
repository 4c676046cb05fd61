package image

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// nearDir is where the archive has the files that lie over the host's.
const nearDir = "near"

// near collects files of the host for the archive: to open one over 9p asks the host
// three times, which takes longer than to start the program that it is.
type near struct {
	files []file
	seen  map[string]bool
}

// collect answers the named files and what they need: the directories and links on the
// way to them, and a program's libraries. A name without a slash is a program of the
// PATH; a directory means all that is in it.
func collect(ctx context.Context, names []string) ([]file, error) {
	n := near{seen: map[string]bool{}}
	for _, name := range names {
		path, err := place(name)
		if err != nil {
			return nil, err
		}
		if err := n.add(path); err != nil {
			return nil, err
		}
		needed, err := libraries(ctx, path)
		if err != nil {
			return nil, err
		}
		for _, library := range needed {
			if err := n.add(library); err != nil {
				return nil, err
			}
		}
	}
	return n.files, nil
}

// place answers the absolute path that a name means.
func place(name string) (string, error) {
	if strings.Contains(name, "/") {
		return filepath.Abs(name)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("there is no program %s in the PATH", name)
	}
	return path, nil
}

// maxLinks bounds the links on a way, as the kernel does.
const maxLinks = 40

// add takes the file at an absolute path, and all that leads to it.
func (n *near) add(path string) error {
	for range maxLinks {
		rest, err := n.walk(path)
		if err != nil || rest == "" {
			return err
		}
		path = rest
	}
	return fmt.Errorf("%s: too many links", path)
}

// walk takes what is on the way to a path. At a link it stops and answers the path
// that is left to go.
func (n *near) walk(path string) (rest string, err error) {
	walked, ahead := "/", strings.Split(strings.Trim(filepath.Clean(path), "/"), "/")
	for i, name := range ahead {
		here := filepath.Join(walked, name)
		info, err := os.Lstat(here)
		switch {
		case err != nil:
			return "", err
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(here)
			if err != nil {
				return "", err
			}
			n.put(file{name: here, mode: modeLink, content: []byte(target)})
			if !filepath.IsAbs(target) {
				target = filepath.Join(walked, target)
			}
			return filepath.Join(append([]string{target}, ahead[i+1:]...)...), nil
		case info.IsDir():
			n.put(file{name: here, mode: modeDirectory | permissions(info)})
		case info.Mode().IsRegular():
			n.put(file{name: here, mode: modeRegular | permissions(info), from: here})
		}
		walked = here
	}
	info, err := os.Lstat(walked)
	if err != nil || !info.IsDir() {
		return "", err
	}
	entries, err := os.ReadDir(walked)
	for _, e := range entries {
		err = errors.Join(err, n.add(filepath.Join(walked, e.Name())))
	}
	return "", err
}

func (n *near) put(f file) {
	if !n.seen[f.name] {
		n.seen[f.name] = true
		f.name = nearDir + f.name
		n.files = append(n.files, f)
	}
}

// permissions are a file's in the form of the archive.
func permissions(info fs.FileInfo) uint32 {
	const sticky = 0o1000
	mode := uint32(info.Mode().Perm())
	if info.Mode()&fs.ModeSticky != 0 {
		mode |= sticky
	}
	return mode
}

// libraries answers the libraries that the loader takes for a program, and the loader.
func libraries(ctx context.Context, path string) ([]string, error) {
	program, err := elf.Open(path)
	if err != nil {
		return nil, nil // no program: a script, a directory, data
	}
	names, err := program.ImportedLibraries()
	if err := errors.Join(err, program.Close()); err != nil || len(names) == 0 {
		return nil, err
	}
	listing, err := output(ctx, "", "ldd", path)
	if err != nil {
		return nil, err
	}
	return parseLibraries(string(listing)), nil
}

// parseLibraries reads what ldd prints: "NAME => PATH (ADDRESS)", or "PATH (ADDRESS)"
// for the loader.
func parseLibraries(listing string) []string {
	var paths []string
	for line := range strings.Lines(listing) {
		if _, path, found := strings.Cut(line, "=>"); found {
			line = path
		}
		if fields := strings.Fields(line); len(fields) > 0 && filepath.IsAbs(fields[0]) {
			paths = append(paths, fields[0])
		}
	}
	return paths
}

// moduleFiles are the kernel's modules, to lie where the kernel looks for them.
func moduleFiles(kernel *Kernel) ([]file, error) {
	var files []file
	err := filepath.WalkDir(kernel.Modules, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		f := file{name: nearDir + strings.TrimPrefix(path, kernel.Modules), mode: modeDirectory | 0o755}
		if !info.IsDir() {
			f.mode, f.from = modeRegular|0o644, path
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

// merged joins lists of files; what comes first stays.
func merged(lists ...[]file) []file {
	var all []file
	seen := map[string]bool{}
	for _, list := range lists {
		for _, f := range list {
			if !seen[f.name] {
				seen[f.name] = true
				all = append(all, f)
			}
		}
	}
	return all
}
