package image

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// file is an entry of a cpio archive.
type file struct {
	name    string
	mode    uint32
	content []byte
}

// Initramfs writes the archive that is the machine's first root: the program at
// the path, as /init, and the modules that it loads.
func Initramfs(kernel *Kernel, program, to string) error {
	init, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	order, modules, err := firstModules(kernel)
	if err != nil {
		return fmt.Errorf("make the initramfs: %w", err)
	}
	const directory, regular = 0o040755, 0o100755
	files := []file{
		{"dev", directory, nil}, {"modules", directory, nil},
		{"init", regular, init}, {"modules/order", regular, []byte(strings.Join(order, "\n"))},
	}
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		files = append(files, file{"modules/" + name, regular, modules[name]})
	}
	var archive bytes.Buffer
	writeArchive(&archive, files)
	return os.WriteFile(to, archive.Bytes(), 0o644)
}

// writeArchive writes cpio's "newc" format, the one that the kernel reads
// (Documentation/driver-api/early-userspace/buffer-format.rst): a header of
// hexadecimal numbers, the name and the content, each padded to four bytes. The
// writer must not fail.
func writeArchive(w io.Writer, files []file) {
	written := 0
	put := func(data []byte) {
		n, _ := w.Write(data)
		written += n
		for ; written%4 != 0; written++ {
			_, _ = w.Write([]byte{0})
		}
	}
	for i, f := range append(files, file{name: "TRAILER!!!"}) {
		header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			i+1, f.mode, 0, 0, 1, 0, len(f.content), 0, 0, 0, 0, len(f.name)+1, 0)
		put([]byte(header + f.name + "\x00"))
		put(f.content)
	}
}
