package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"path"
	"strings"
)

// withLibraries adds to an image's files what they need of a package tree: what links
// lead to, the loader, and every library that a program or a library names. It is
// the loader's own search in Debian's directories, done before there is a node.
func withLibraries(files, from tree) error {
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
			if f.target == "" {
				return
			}
			name = step(name, f.target)
		}
	}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		if target := files[name].target; target != "" {
			take(step(name, target), name)
			continue
		}
		needs, err := linked(files[name].content)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, need := range needs {
			take(from.library(need), name)
		}
	}
	return missing
}

// linked answers what the loader looks for when it starts a program or loads a
// library: an absolute path for the loader itself, names for libraries. It is empty
// for whatever is no ELF file.
func linked(content []byte) ([]string, error) {
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
func (t tree) library(name string) string {
	if path.IsAbs(name) {
		return belowUsr(name)
	}
	for candidate := range t {
		if found, _ := path.Match("usr/lib/*-linux-gnu*/"+name, candidate); found {
			return candidate
		}
	}
	return name
}
