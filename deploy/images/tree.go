package main

import (
	"archive/tar"
	"bytes"
	"io"
	"maps"
	"path"
	"slices"
)

// file is a regular file, or a symbolic link if it has a target.
type file struct {
	content []byte
	mode    int64 // permission bits
	target  string
}

// tree is the files of an image or a package, by their paths without the leading
// slash. Directories are where files are.
type tree map[string]file

// layer answers the tree as a tar stream in which only the tree matters: sorted, all
// root's, from the beginning of time. An image's own time is in its configuration.
func (t tree) layer() ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	written := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if err := writeParents(w, name, written); err != nil {
			return nil, err
		}
		f := t[name]
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: f.mode, Size: int64(len(f.content)), Format: tar.FormatPAX}
		if f.target != "" {
			header = &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: f.target, Mode: 0o777, Format: tar.FormatPAX}
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

// writeParents writes the directories above a file that are not yet written.
func writeParents(w *tar.Writer, name string, written map[string]bool) error {
	parent := path.Dir(name)
	if parent == "." || written[parent] {
		return nil
	}
	if err := writeParents(w, parent, written); err != nil {
		return err
	}
	written[parent] = true
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: parent + "/", Mode: 0o755, Format: tar.FormatPAX})
}

// readTar adds what a tar stream has, each under the name that rename answers.
// Anything but files, links and directories is left out: a package has nothing else.
func (t tree) readTar(r io.Reader, rename func(string) string) error {
	for stream := tar.NewReader(r); ; {
		header, err := stream.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := rename(header.Name)
		switch header.Typeflag {
		case tar.TypeReg:
			content, err := io.ReadAll(stream)
			if err != nil {
				return err
			}
			t[name] = file{content: content, mode: header.Mode & 0o755} // no setuid in an image
		case tar.TypeSymlink:
			t[name] = file{target: header.Linkname}
		case tar.TypeLink:
			t[name] = t[rename(header.Linkname)]
		}
	}
}

// follow answers the path of the file that a path leads to, over links in its last
// element, and whether there is one.
func (t tree) follow(name string) (string, bool) {
	for range 8 {
		f, ok := t[name]
		if !ok || f.target == "" {
			return name, ok
		}
		name = step(name, f.target)
	}
	return name, false
}

// step is where one link leads.
func step(name, target string) string {
	if path.IsAbs(target) {
		return belowUsr(target)
	}
	return path.Join(path.Dir(name), target)
}
