// Package fileset is the files of an image before they are an image.
//
// It owns their paths, the tar stream that a layer is, and the search for the libraries
// that programs need. It promises that the same files make the same stream. It must not
// know where files come from, nor what an image is.
//
// Used by images and by debian.
package fileset

import (
	"archive/tar"
	"bytes"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// File is a regular file, or a symbolic link if it has a target.
type File struct {
	Content []byte
	// Mode is the permission bits.
	Mode int64
	// Target is where a symbolic link leads.
	Target string
}

// Set is the files of an image or a package, by their paths without the leading
// slash. Directories are where files are.
type Set map[string]File

// Layer answers the files as a tar stream in which nothing else matters: sorted, all
// root's, from the beginning of time. An image's own time is in its configuration.
func (s Set) Layer() ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	written := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if err := writeParents(w, name, written); err != nil {
			return nil, err
		}
		f := s[name]
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: f.Mode, Size: int64(len(f.Content)), Format: tar.FormatPAX}
		if f.Target != "" {
			header = &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: f.Target, Mode: 0o777, Format: tar.FormatPAX}
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Content); err != nil {
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

// ReadTar adds what a tar stream has, each under the name that rename answers.
// Anything but files, links and directories is left out: a package has nothing else.
func (s Set) ReadTar(r io.Reader, rename func(string) string) error {
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
			s[name] = File{Content: content, Mode: header.Mode & 0o755} // no setuid in an image
		case tar.TypeSymlink:
			s[name] = File{Target: header.Linkname}
		case tar.TypeLink:
			s[name] = s[rename(header.Linkname)]
		}
	}
}

// Follow answers the path of the file that a path leads to, over links in its last
// element, and whether there is one.
func (s Set) Follow(name string) (string, bool) {
	for range 8 {
		f, ok := s[name]
		if !ok || f.Target == "" {
			return name, ok
		}
		name = step(name, f.Target)
	}
	return name, false
}

// step is where one link leads.
func step(name, target string) string {
	if path.IsAbs(target) {
		return BelowUsr(target)
	}
	return path.Join(path.Dir(name), target)
}

// BelowUsr is where a file of a package is in an image: /bin, /lib and the like are
// links into /usr, as in Debian's own installations.
func BelowUsr(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	switch first, _, _ := strings.Cut(name, "/"); first {
	case "bin", "sbin", "lib", "lib64":
		return "usr/" + name
	}
	return name
}
