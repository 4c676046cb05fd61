package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSameFilesMakeTheSameBytes(t *testing.T) {
	s := settings{programs: t.TempDir(), registry: "localhost", tag: "v1", version: "v1.2.3", created: time.Unix(1e9, 0).UTC()}
	program := filepath.Join(s.programs, "program")
	write := func(at time.Time, mode os.FileMode) []byte {
		if err := os.WriteFile(program, []byte("the program"), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(program, at, at); err != nil {
			t.Fatal(err)
		}
		i := image{name: "program", title: "a program", programs: []string{"program"}}
		built, err := s.build(i)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "program.tar")
		if _, err := writeArchive(path, built, s.reference(i)); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	first := write(time.Unix(1, 0), 0o700)
	if second := write(time.Unix(2e9, 0), 0o755); !bytes.Equal(first, second) {
		t.Error("the same program made another archive when its file was newer and had another mode")
	}
	s.version = "v1.2.4"
	if other := write(time.Unix(1, 0), 0o755); bytes.Equal(first, other) {
		t.Error("another version made the same archive")
	}
}

func TestAProgramThatIsNotThereIsNamed(t *testing.T) {
	s := settings{programs: t.TempDir()}
	_, err := s.build(image{name: "x", programs: []string{"damask-x"}})
	if err == nil || !strings.Contains(err.Error(), "damask-x") || !strings.Contains(err.Error(), "make build") {
		t.Errorf("built an image without its program: %v", err)
	}
}

// machine is a package tree with a dynamic program of this machine, what it loads, and
// a library that it does not.
func machine(t *testing.T, program string) tree {
	t.Helper()
	from := tree{}
	var add func(name string)
	add = func(name string) {
		resolved, err := filepath.EvalSymlinks("/" + name)
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(resolved)
		if err != nil {
			t.Fatal(err)
		}
		from[name] = file{content: content, mode: 0o755}
		needs, err := linked(content)
		if err != nil {
			t.Fatal(err)
		}
		for _, need := range needs {
			if filepath.IsAbs(need) {
				add(belowUsr(need))
				continue
			}
			found, err := filepath.Glob("/usr/lib/*-linux-gnu*/" + need)
			if err != nil || len(found) != 1 {
				t.Fatalf("%s: %v %v", need, found, err)
			}
			add(strings.TrimPrefix(found[0], "/"))
		}
	}
	add(program)
	from["usr/lib/x86_64-linux-gnu/libunused.so.1"] = file{content: []byte("unused")}
	return from
}

func TestAnImageHasTheLibrariesOfItsProgramsAndNoOthers(t *testing.T) {
	const program = "usr/sbin/xtables-nft-multi"
	from := machine(t, program)
	files := tree{program: from[program], "usr/sbin/iptables": {target: "xtables-nft-multi"}}
	if err := withLibraries(files, from); err != nil {
		t.Fatal(err)
	}
	names := slices.Collect(maps.Keys(files))
	if len(files) != len(from) || slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, "unused") }) {
		t.Errorf("took %v of %d files", names, len(from))
	}
	for _, missing := range []string{"libc.so.6", "libnftnl.so.11", "ld-linux"} {
		broken := maps.Clone(from)
		maps.DeleteFunc(broken, func(name string, _ file) bool { return strings.Contains(name, missing) })
		err := withLibraries(tree{program: from[program]}, broken)
		if err == nil || !strings.Contains(err.Error(), missing) || !strings.Contains(err.Error(), program) {
			t.Errorf("without %s: %v", missing, err)
		}
	}
}

func TestFilesOfPackagesAreBelowUsr(t *testing.T) {
	for name, want := range map[string]string{
		"./lib64/ld-linux-x86-64.so.2": "usr/lib64/ld-linux-x86-64.so.2",
		"/sbin/ip":                     "usr/sbin/ip",
		"./usr/bin/env":                "usr/bin/env",
		"etc/protocols":                "etc/protocols",
		"./../../etc/passwd":           "etc/passwd",
	} {
		if got := belowUsr(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
