package fileset

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"path"
	"strings"
)

// WithLibraries adds to an image's files what they need of another set: what links
// lead to, the loader, and every library that a program or a library names. It is
// the loader's own search in Debian's directories, done before there is a node.
func WithLibraries(files, from Set) error {
	var missing error
	queue := make([]string, 0, len(files))
	for name := range files {
		queue = append(queue, name)
	}
	take := func(name, user string) {
		for { // each link on the way, and what is at its end
			if _, has := files[name]; has {
				return
			}
			f, ok := from[name]
			if !ok {
				missing = errors.Join(missing, fmt.Errorf("%s needs %s, which no package of the image has", user, name))
				return
			}
			files[name] = f
			queue = append(queue, name)
			if f.Target == "" {
				return
			}
			name = step(name, f.Target)
		}
	}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		if target := files[name].Target; target != "" {
			take(step(name, target), name)
			continue
		}
		needs, err := Linked(files[name].Content)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, need := range needs {
			take(from.library(need), name)
		}
	}
	return missing
}

// Linked answers what the loader looks for when it starts a program or loads a
// library: an absolute path for the loader itself, names for libraries. It is empty
// for whatever is no ELF file.
func Linked(content []byte) ([]string, error) {
	if !bytes.HasPrefix(content, []byte(elf.ELFMAG)) {
		return nil, nil
	}
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	needs, err := f.ImportedLibraries()
	if err != nil {
		return nil, err
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		loader := make([]byte, p.Filesz)
		if _, err := p.ReadAt(loader, 0); err != nil {
			return nil, err
		}
		needs = append(needs, strings.TrimRight(string(loader), "\x00"))
	}
	return needs, nil
}

// library answers where the loader finds a library: in Debian's directory for the
// architecture. A name that is not there is answered as it is.
func (s Set) library(name string) string {
	if path.IsAbs(name) {
		return BelowUsr(name)
	}
	for candidate := range s {
		if found, _ := path.Match("usr/lib/*-linux-gnu*/"+name, candidate); found {
			return candidate
		}
	}
	return name
}
