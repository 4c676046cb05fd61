package image

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestModulesAreLoadedAfterThoseThatTheyNeed(t *testing.T) {
	const dep = `kernel/fs/9p/9p.ko: kernel/fs/netfs/netfs.ko kernel/net/9p/9pnet.ko
kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko
kernel/net/9p/9pnet.ko:
kernel/fs/netfs/netfs.ko: kernel/net/9p/9pnet.ko
kernel/lib/some-thing.ko:
`
	got, err := loadOrder(dep, []string{"9p", "9pnet-virtio", "some_thing"})
	want := []string{"kernel/net/9p/9pnet.ko", "kernel/fs/netfs/netfs.ko", "kernel/fs/9p/9p.ko", "kernel/net/9p/9pnet_virtio.ko.xz", "kernel/lib/some-thing.ko"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := loadOrder(dep, []string{"floppy"}); err == nil || !strings.Contains(err.Error(), "floppy") {
		t.Errorf("a module that is not there: %v", err)
	}
}

func TestTheNetworkAndTheWayToTheHostAreKept(t *testing.T) {
	for name, want := range map[string]bool{
		"modules.builtin": true, "kernel/net/openvswitch/openvswitch.ko": true, "kernel/drivers/net/veth.ko": true,
		"kernel/drivers/net/vxlan/vxlan.ko": true, "kernel/drivers/net/ethernet/intel/e1000/e1000.ko": false, "kernel/fs/9p/9p.ko": true,
		"kernel/drivers/gpu/drm/drm.ko": false, "kernel/drivers/char/virtio_console.ko": true,
	} {
		if got := wantedFile(name); got != want {
			t.Errorf("%s: kept is %t, want %t", name, got, want)
		}
	}
}

func TestCpioReadsTheArchive(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("cpio is not installed; the virtual machine's kernel reads the same archive")
	}
	var archive bytes.Buffer
	dir, from := t.TempDir(), filepath.Join(t.TempDir(), "elsewhere")
	if err := os.WriteFile(from, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := writeArchive(&archive, []file{
		{name: "dir", mode: modeDirectory | 0o755}, {name: "dir/odd", mode: modeRegular | 0o755, from: from},
		{name: "even", mode: modeRegular | 0o644, content: []byte("1234")}, {name: "link", mode: modeLink, content: []byte("even")},
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cpio", "--extract", "--quiet", "--no-absolute-filenames")
	cmd.Dir, cmd.Stdin = dir, &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, want := range map[string]string{"dir/odd": "12345", "even": "1234", "link": "1234"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}
