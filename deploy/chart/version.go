package chart

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

// Release is what one making of the chart is called, and which images it is for.
type Release struct {
	Version  string // of the sources, as git describes them
	Registry string // where the images' names begin
	Tag      string // of the images
}

var (
	// released is a version with or without what git adds after it (v1.2.3-4-gabcdef0).
	released = regexp.MustCompile(`^v?(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)$`)
	// commit is what git says where there is no version.
	commit = regexp.MustCompile(`^[0-9A-Za-z-]+$`)
	// registry and tag are as the schema of values has them.
	registry = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]*[A-Za-z0-9]$`)
	tag      = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
)

// check answers the version that Helm wants, or all that is wrong with a release.
func (r Release) check() (string, error) {
	version, err := semantic(r.Version)
	wrong := []error{err}
	if !registry.MatchString(r.Registry) {
		wrong = append(wrong, fmt.Errorf("%q is no registry: want HOST[:PORT][/PATH]", r.Registry))
	}
	if !tag.MatchString(r.Tag) {
		wrong = append(wrong, fmt.Errorf("%q is no tag of an image", r.Tag))
	}
	return version, errors.Join(wrong...)
}

// semantic is what git describes as the version that Helm wants: a semantic one. Sources
// without a release are before the first.
func semantic(described string) (string, error) {
	if match := released.FindStringSubmatch(described); match != nil {
		return match[1], nil
	}
	if !commit.MatchString(described) {
		return "", fmt.Errorf("%q is no version: want vX.Y.Z, or a commit", described)
	}
	// With a letter before it, since a number must not begin with a zero.
	return "0.0.0-g" + strings.TrimPrefix(described, "g"), nil
}

// stamped answers the files that a person wrote, with the release in its places.
func (r Release) stamped() (Files, error) {
	files := Files{}
	err := fs.WalkDir(written, Name, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := written.ReadFile(name)
		files[strings.TrimPrefix(name, Name+"/")] = text
		return err
	})
	if err != nil {
		return nil, err
	}
	version, err := r.check()
	if err != nil {
		return nil, err
	}
	for _, stamp := range []struct{ file, from, to string }{
		{"Chart.yaml", "version: 0.0.0\n", fmt.Sprintf("version: %s\n", version)},
		{"Chart.yaml", "appVersion: dev\n", fmt.Sprintf("appVersion: %q\n", r.Tag)},
		{"values.yaml", "  registry: localhost\n", fmt.Sprintf("  registry: %s\n", r.Registry)},
	} {
		if n := bytes.Count(files[stamp.file], []byte(stamp.from)); n != 1 {
			return nil, fmt.Errorf("%s has %q %d times, want once", stamp.file, stamp.from, n)
		}
		files[stamp.file] = bytes.Replace(files[stamp.file], []byte(stamp.from), []byte(stamp.to), 1)
	}
	return files, nil
}
