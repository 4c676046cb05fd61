package chart

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
)

// Pack writes the chart as Helm takes it: an archive in which everything is sorted and of no
// time, so the same files are the same bytes.
func (f Files) Pack(w io.Writer) error {
	zipped := gzip.NewWriter(w)
	archive := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(f)) {
		header := tar.Header{Typeflag: tar.TypeReg, Name: path.Join(Name, name), Mode: 0o644, Size: int64(len(f[name]))}
		if err := archive.WriteHeader(&header); err != nil {
			return err
		}
		if _, err := archive.Write(f[name]); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return zipped.Close()
}

// chartVersion is the line of Chart.yaml with the chart's version.
var chartVersion = regexp.MustCompile(`(?m)^version: (\S+)$`)

// Write writes the chart below a directory: as a directory, and packed, in place of those that were
// there, whatever their version. It answers the path of the archive.
func (f Files) Write(out string) (string, error) {
	match := chartVersion.FindSubmatch(f["Chart.yaml"])
	if match == nil {
		return "", fmt.Errorf("write chart: Chart.yaml has no version")
	}
	directory := filepath.Join(out, Name)
	earlier, err := filepath.Glob(filepath.Join(out, Name+"-*.tgz"))
	if err != nil {
		return "", fmt.Errorf("write chart: %w", err)
	}
	for _, path := range append(earlier, directory) {
		if err := os.RemoveAll(path); err != nil {
			return "", fmt.Errorf("write chart: %w", err)
		}
	}
	for name, text := range f {
		file := filepath.Join(directory, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return "", fmt.Errorf("write chart: %w", err)
		}
		if err := os.WriteFile(file, text, 0o644); err != nil { //nolint:gosec // for everybody to read
			return "", fmt.Errorf("write chart: %w", err)
		}
	}
	var packed bytes.Buffer
	if err := f.Pack(&packed); err != nil {
		return "", fmt.Errorf("pack chart: %w", err)
	}
	archive := filepath.Join(out, fmt.Sprintf("%s-%s.tgz", Name, match[1]))
	if err := os.WriteFile(archive, packed.Bytes(), 0o644); err != nil { //nolint:gosec // for everybody to read
		return "", fmt.Errorf("write chart: %w", err)
	}
	return archive, nil
}
