package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// wanted are the parts of a kernel's modules that the tests have a use for: the
// network, the way to the host, and what those need. The rest is drivers.
var wanted = []string{
	"kernel/net/", "kernel/lib/", "kernel/crypto/", "kernel/arch/x86/crypto/", "kernel/drivers/virtio/", "kernel/drivers/char/virtio_console",
	"kernel/drivers/net/vxlan/", "kernel/fs/9p/", "kernel/fs/netfs/", "kernel/fs/fscache/", "kernel/fs/overlayfs/",
}

// wantedFiles tells whether a file below the modules' directory is kept.
func wantedFile(name string) bool {
	if !strings.Contains(name, "/") {
		return true // modules.builtin and the like
	}
	// drivers/net itself has the devices without hardware: veth, geneve, tun, dummy.
	if rest, found := strings.CutPrefix(name, "kernel/drivers/net/"); found && !strings.Contains(rest, "/") {
		return true
	}
	for _, prefix := range wanted {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// unpack takes the kernel and the wanted modules out of a Debian package.
func unpack(ctx context.Context, archive string, kernel *Kernel, dir string) error {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", archive)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("read %s: %w", archive, err)
	}
	compressed := filepath.Join(dir, "vmlinuz")
	readErr := eachFile(stdout, func(name string, content io.Reader) error {
		switch module, found := strings.CutPrefix(name, "lib/modules/"+kernel.Version+"/"); {
		case name == "boot/vmlinuz-"+kernel.Version:
			return write(compressed, content)
		case found && wantedFile(module):
			return write(filepath.Join(kernel.Modules, "usr/lib/modules", kernel.Version, module), content)
		}
		return nil
	})
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("read %s: %w: %s", archive, err, bytes.TrimSpace(stderr.Bytes()))
	}
	if readErr != nil {
		return fmt.Errorf("read %s: %w", archive, readErr)
	}
	if err := decompress(ctx, compressed, kernel.Boot); err != nil {
		return err
	}
	return os.Remove(compressed)
}

// eachFile calls f with every regular file of a tar stream, and reads it to its
// end.
func eachFile(stream io.Reader, f func(name string, content io.Reader) error) error {
	var failed error
	for archive := tar.NewReader(stream); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, stream)
			return errors.Join(failed, err)
		}
		if err != nil {
			return errors.Join(failed, err)
		}
		if header.Typeflag == tar.TypeReg && failed == nil {
			failed = f(strings.TrimPrefix(strings.TrimPrefix(header.Name, "./"), "usr/"), archive)
		}
	}
}

func write(path string, content io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}

// xzMagic begins the compressed kernel inside a bzImage (Debian: CONFIG_KERNEL_XZ).
var xzMagic = []byte{0xfd, '7', 'z', 'X', 'Z', 0}

// decompress takes the kernel proper out of a bzImage, so that no software
// emulation has to do it at each start. qemu enters such an ELF file by PVH.
func decompress(ctx context.Context, from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	at := bytes.Index(data, xzMagic)
	if at < 0 {
		return fmt.Errorf("%s is not compressed with xz", from)
	}
	cmd := exec.CommandContext(ctx, "xz", "--decompress", "--stdout", "--single-stream")
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(data[at:]), &stdout, &stderr
	// What follows the stream inside the bzImage is not xz's: it may end the pipe
	// early, and then only the result tells.
	err = cmd.Run()
	if !bytes.HasPrefix(stdout.Bytes(), []byte("\x7fELF")) {
		return fmt.Errorf("decompress the kernel: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return os.WriteFile(to, stdout.Bytes(), 0o644)
}
