package fileset

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// machine is a set of files with a dynamic program of this machine, what it loads, and
// a library that it does not.
func machine(t *testing.T, program string) Set {
	t.Helper()
	from := Set{}
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
		from[name] = File{Content: content, Mode: 0o755}
		needs, err := Linked(content)
		if err != nil {
			t.Fatal(err)
		}
		for _, need := range needs {
			if filepath.IsAbs(need) {
				add(BelowUsr(need))
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
	from["usr/lib/x86_64-linux-gnu/libunused.so.1"] = File{Content: []byte("unused")}
	return from
}

func TestAnImageHasTheLibrariesOfItsProgramsAndNoOthers(t *testing.T) {
	const program = "usr/sbin/xtables-nft-multi"
	from := machine(t, program)
	files := Set{program: from[program], "usr/sbin/iptables": {Target: "xtables-nft-multi"}}
	if err := WithLibraries(files, from); err != nil {
		t.Fatal(err)
	}
	names := slices.Collect(maps.Keys(files))
	if len(files) != len(from) || slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, "unused") }) {
		t.Errorf("took %v of %d files", names, len(from))
	}
	for _, missing := range []string{"libc.so.6", "libnftnl.so.11", "ld-linux"} {
		broken := maps.Clone(from)
		maps.DeleteFunc(broken, func(name string, _ File) bool { return strings.Contains(name, missing) })
		err := WithLibraries(Set{program: from[program]}, broken)
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
		if got := BelowUsr(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
