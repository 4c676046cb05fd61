package main

import (
	"bytes"
	"os"
	"path/filepath"
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
