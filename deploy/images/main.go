// Command images writes Damask's container images as OCI archives: one tar file an
// image, with the layout of the OCI image specification in it, which containerd,
// CRI-O, skopeo and Docker read. It needs no registry and no daemon.
//
// It owns what is in an image and how it is written. It promises that the same
// programs and the same Debian packages make the same bytes, that an image has
// nothing that its programs do not use, and that a library that is missing is an
// error here and not on a node. It must not know how the images are deployed.
//
// Used by `make images`.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// settings are the same for all images of one run.
type settings struct {
	programs string // directory of our binaries
	packages string // directory where Debian packages are kept
	registry string // where the images' names begin
	tag      string
	version  string
	created  time.Time
}

func main() {
	var s settings
	out := flag.String("out", "", "directory for the archives")
	created := flag.String("created", "0", "when the sources are from, in seconds since 1970")
	flag.StringVar(&s.programs, "programs", "bin", "directory of Damask's binaries")
	flag.StringVar(&s.packages, "packages", "", "directory where Debian packages are kept")
	flag.StringVar(&s.registry, "registry", "localhost", "what the images' names begin with")
	flag.StringVar(&s.tag, "tag", "dev", "tag of the images")
	flag.StringVar(&s.version, "version", "unknown", "version that the images' labels say")
	flag.Parse()
	seconds, err := strconv.ParseInt(*created, 10, 64)
	if err == nil {
		s.created = time.Unix(seconds, 0).UTC()
		err = s.writeAll(*out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

// writeAll writes an archive for each image of the catalog.
func (s settings) writeAll(out string) error {
	for _, directory := range []string{out, s.packages} {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return err
		}
	}
	for _, i := range catalog {
		built, err := s.build(i)
		if err != nil {
			return fmt.Errorf("image %s: %w", i.name, err)
		}
		size, err := writeArchive(filepath.Join(out, i.name+".tar"), built, s.reference(i))
		if err != nil {
			return fmt.Errorf("write image %s: %w", i.name, err)
		}
		digest, err := built.Digest()
		if err != nil {
			return err
		}
		fmt.Printf("%-22s %6.1f MB  %s\n", i.name, float64(size)/1e6, digest)
	}
	return nil
}

// reference is the name by which a node knows the image.
func (s settings) reference(i image) string { return s.registry + "/" + i.name + ":" + s.tag }
