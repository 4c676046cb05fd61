package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// file is an entry of a cpio archive.
type file struct {
	name string
	// mode has the type and the permissions, as stat(2) has them.
	mode uint32
	// content is that of a file, or what a link points at.
	content []byte
	// from is the path of a file that has the content instead.
	from string
}

// Types of files in mode (inode(7)).
const (
	modeDirectory = 0o040000
	modeRegular   = 0o100000
	modeLink      = 0o120000 | 0o777
)

// Initramfs writes the archive that is the machine's first root: the program at the
// path, as /init, and the modules that it loads; and below /near what is to lie over
// the host's files: the kernel's modules, and the named files of the host.
func Initramfs(ctx context.Context, kernel *Kernel, program string, near []string, to string) error {
	order, modules, err := firstModules(kernel)
	if err != nil {
		return fmt.Errorf("make the initramfs: %w", err)
	}
	files := []file{
		{name: "dev", mode: modeDirectory | 0o755}, {name: "modules", mode: modeDirectory | 0o755}, {name: nearDir, mode: modeDirectory | 0o755},
		{name: "init", mode: modeRegular | 0o755, from: program},
		{name: "modules/order", mode: modeRegular | 0o644, content: []byte(strings.Join(order, "\n"))},
	}
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		files = append(files, file{name: "modules/" + name, mode: modeRegular | 0o644, content: modules[name]})
	}
	named, err := collect(ctx, near)
	if err != nil {
		return fmt.Errorf("make the initramfs: %w", err)
	}
	own, err := moduleFiles(kernel)
	if err != nil {
		return fmt.Errorf("make the initramfs: %w", err)
	}
	archive, err := os.Create(to)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(archive, 1<<20)
	return errors.Join(writeArchive(buffered, merged(files, named, own)), buffered.Flush(), archive.Close())
}

// writeArchive writes cpio's "newc" format, the one that the kernel reads
// (Documentation/driver-api/early-userspace/buffer-format.rst): a header of
// hexadecimal numbers, the name and the content, each padded to four bytes.
func writeArchive(w io.Writer, files []file) error {
	written := 0
	var failed error
	put := func(data []byte) {
		n, err := w.Write(data)
		written += n
		for failed = errors.Join(failed, err); written%4 != 0; written++ {
			_, err := w.Write([]byte{0})
			failed = errors.Join(failed, err)
		}
	}
	for i, f := range append(files, file{name: "TRAILER!!!"}) {
		content := f.content
		if f.from != "" {
			var err error
			if content, err = os.ReadFile(f.from); err != nil {
				return err
			}
		}
		header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			i+1, f.mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(f.name)+1, 0)
		put([]byte(header + f.name + "\x00"))
		put(content)
		if failed != nil {
			return failed
		}
	}
	return nil
}
