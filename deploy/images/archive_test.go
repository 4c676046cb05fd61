package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// archives is where `make images` has put them, or the test is skipped.
func archives(t *testing.T) string {
	t.Helper()
	directory := os.Getenv("DAMASK_IMAGES")
	if directory == "" {
		t.Skip("DAMASK_IMAGES names no directory of images: `make test-images` makes them first")
	}
	return directory
}

// open reads an archive as any reader of image layouts does.
func open(t *testing.T, path string) (v1.Image, v1.Descriptor) {
	t.Helper()
	directory := t.TempDir()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	extract(t, directory, f)
	index, err := layout.ImageIndexFromPath(directory)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("%s has %v, want one image (%v)", path, manifest, err)
	}
	opened, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return opened, manifest.Manifests[0]
}

// extract unpacks a tar stream into a directory.
func extract(t *testing.T, directory string, r io.Reader) {
	t.Helper()
	for stream := tar.NewReader(r); ; {
		header, err := stream.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(directory, header.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		switch header.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o755)
		case tar.TypeSymlink:
			err = os.Symlink(header.Linkname, path)
		default:
			var content []byte
			if content, err = io.ReadAll(stream); err == nil {
				err = os.WriteFile(path, content, header.FileInfo().Mode().Perm())
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// root unpacks an image's layers as a runtime does.
func root(t *testing.T, i v1.Image) string {
	t.Helper()
	directory := t.TempDir()
	layers, err := i.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		content, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		extract(t, directory, content)
		content.Close()
	}
	// What a runtime makes in every container, and Open vSwitch reads.
	if err := os.Mkdir(filepath.Join(directory, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	const urandom = 1<<8 | 9
	if err := syscall.Mknod(filepath.Join(directory, "dev", "urandom"), syscall.S_IFCHR|0o666, urandom); err != nil {
		t.Fatal(err)
	}
	return directory
}

// inside runs a program of an image with nothing but the image's files.
func inside(t *testing.T, root, user, stdin string, command ...string) string {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdin = "/", []string{"PATH=/usr/sbin:/usr/bin", "CNI_COMMAND=VERSION"}, strings.NewReader(stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if user != "0:0" {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s in the image: %v\n%s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

func TestEachArchiveIsAnImageWhosePrograms(t *testing.T) {
	directory := archives(t)
	for _, i := range catalog {
		t.Run(i.name, func(t *testing.T) {
			opened, descriptor := open(t, filepath.Join(directory, i.name+".tar"))
			if err := validate.Image(opened); err != nil {
				t.Fatalf("not a valid image: %v", err)
			}
			config, err := opened.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			if name := descriptor.Annotations[containerdName]; !strings.Contains(name, "/"+i.name+":") {
				t.Errorf("the archive names its image %q", name)
			}
			if wantRoot := config.Config.User == "0:0"; wantRoot != i.root {
				t.Errorf("runs as %s", config.Config.User)
			}
			if l := config.Config.Labels; l["org.opencontainers.image.title"] != i.name || l["org.opencontainers.image.version"] == "" {
				t.Errorf("labels %v", l)
			}
			directory := root(t, opened)
			if _, err := os.Stat(filepath.Join(directory, config.Config.Entrypoint[0])); err != nil {
				t.Error(err)
			}
			for _, program := range i.programs {
				t.Run(program+" runs", func(t *testing.T) {
					arguments := []string{"/usr/bin/" + program, "-version"}
					want := program
					switch program {
					case "damask":
						arguments[1] = "--version"
					case "damask-cni": // asked by CNI_COMMAND
						arguments, want = arguments[:1], `"supportedVersions"`
					}
					if got := inside(t, directory, config.Config.User, "{}", arguments...); !strings.Contains(got, want) {
						t.Errorf("%v says %q", arguments, got)
					}
				})
			}
		})
	}
}

func TestDockersListOfAnArchiveFindsTheSameImage(t *testing.T) {
	path := filepath.Join(archives(t), "damask-ipam.tar")
	opened, _ := open(t, path)
	loaded, err := tarball.ImageFromPath(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := opened.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err := loaded.ConfigName(); err != nil || theirs != ours {
		t.Errorf("Docker finds %v (%v), others %v", theirs, err, ours)
	}
}

func TestTheArchivesAreBuiltAgainWithTheSameDigests(t *testing.T) {
	directory := archives(t)
	for _, i := range catalog {
		opened, _ := open(t, filepath.Join(directory, i.name+".tar"))
		config, err := opened.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		again := settings{
			programs: "../../bin", packages: filepath.Join(directory, "packages"),
			version: config.Config.Labels["org.opencontainers.image.version"], created: config.Created.Time,
		}
		built, err := again.build(i)
		if err != nil {
			t.Fatal(err)
		}
		want, err := opened.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := built.Digest(); err != nil || got != want {
			t.Errorf("%s: built again %v, before %v (%v)", i.name, got, want, err)
		}
	}
}

func TestTheAgentsImageWritesAndReadsRules(t *testing.T) {
	opened, _ := open(t, filepath.Join(archives(t), "damask-nodeagent.tar"))
	directory := root(t, opened)
	if version := inside(t, directory, "0:0", "", "/usr/sbin/iptables", "--version"); !strings.Contains(version, "(nf_tables)") {
		t.Errorf("the agent must know which backend it has, and iptables says %q", version)
	}
	// One of each kind that the agent writes: an extension that is a library of its own,
	// a target, and a protocol by name.
	rules := "*nat\n:DAMASK - [0:0]\n" +
		"-A DAMASK -p tcp -m comment --comment \"a/b:c\" -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination 10.128.0.2:80\n" +
		"-A DAMASK -p sctp -m sctp --dport 9 -m mark --mark 0x1/0x1 -j MASQUERADE --random-fully\nCOMMIT\n"
	// A thread with a network of its own, which ends with the test.
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	inside(t, directory, "0:0", rules, "/usr/sbin/iptables-restore", "--noflush", "--wait", "5")
	saved := inside(t, directory, "0:0", "", "/usr/sbin/iptables-save", "-t", "nat")
	for line := range strings.Lines(rules) {
		if strings.HasPrefix(line, "-A") && !strings.Contains(saved, line) {
			t.Errorf("wrote %sand read\n%s", line, saved)
		}
	}
}

func TestOpenVSwitchRunsInItsImage(t *testing.T) {
	opened, _ := open(t, filepath.Join(archives(t), "damask-ovs.tar"))
	directory := root(t, opened)
	for _, program := range []string{"/usr/sbin/ovs-vswitchd", "/usr/sbin/ovsdb-server", "/usr/bin/ovs-vsctl", "/usr/bin/ovs-appctl", "/usr/bin/ovs-ofctl", "/usr/bin/ovs-dpctl", "/usr/bin/ovsdb-client"} {
		if version := inside(t, directory, "0:0", "", program, "--version"); !strings.Contains(version, "Open vSwitch") {
			t.Errorf("%s says %q", program, version)
		}
	}
	inside(t, directory, "0:0", "", "/usr/bin/ovsdb-tool", "create", "/conf.db", "/usr/share/openvswitch/vswitch.ovsschema")
}

func TestNothingInAnImageIsFromTheMachineThatBuiltIt(t *testing.T) {
	directory := archives(t)
	here, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range catalog {
		opened, _ := open(t, filepath.Join(directory, i.name+".tar"))
		layers, err := opened.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, layer := range layers {
			r, err := layer.Uncompressed()
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(content, []byte(here)) {
				t.Errorf("%s has the path %s in it", i.name, here)
			}
		}
	}
}
