package machine

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// start starts a machine with one program of the host and one disk.
func start(t *testing.T) *Machine {
	t.Helper()
	return New(t, Config{
		Name: "node1", Net: netnstest.New(t, "node1"),
		Files: map[string]string{"/usr/local/bin/say": "/bin/echo"},
		Disks: []string{"/var/lib/kubelet"},
	})
}

func TestMachineIsItsOwn(t *testing.T) {
	before := mounts(t)
	m := start(t)
	if got := m.Run(t, "/bin/hostname"); got != "node1" {
		t.Errorf("its host name is %q", got)
	}
	if got := m.Run(t, "/usr/local/bin/say", "hello"); got != "hello" {
		t.Errorf("the program that it was given says %q", got)
	}
	if got := m.Run(t, "/bin/readlink", "/proc/1/ns/net"); !strings.HasPrefix(got, "net:") || got == readlink(t, "/proc/self/ns/net") {
		t.Errorf("its network namespace is %q", got)
	}
	if got := m.Run(t, "/bin/cat", "/proc/1/cgroup"); strings.Contains(got, filepath.Base(m.dir)) || !strings.Contains(got, ":memory:/\n") {
		t.Errorf("it sees the cgroups of the host:\n%s", got)
	}
	if got := m.Run(t, "/bin/ls", "/tmp", "/var/lib/kubelet"); got != "/tmp:\n\n/var/lib/kubelet:" {
		t.Errorf("what should be empty has %q", got)
	}
	if got := mounts(t); got != before {
		t.Errorf("the host has other mounts than before:\n%s\nnot\n%s", got, before)
	}
}

func TestWhatAMachineWritesTheHostDoesNotHave(t *testing.T) {
	m := start(t)
	own := filepath.Join(t.TempDir(), "own")
	m.Write(t, own, []byte("text"))
	if got := m.Run(t, "/bin/cat", own); got != "text" {
		t.Errorf("the machine reads %q", got)
	}
	if _, err := os.Stat(own); !os.IsNotExist(err) {
		t.Errorf("the host has it: %v", err)
	}
	for name, value := range wantedByKubelets {
		path := "/proc/sys/" + name
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Run(t, "/bin/cat", path); got != value {
			t.Errorf("%s is %q on the machine, want %q", name, got, value)
		}
		m.Run(t, "/bin/sh", "-c", "echo 7 >"+path)
		if is, err := os.ReadFile(path); err != nil || string(is) != string(was) {
			t.Errorf("%s of the host is now %q, %v, was %q", name, is, err, was)
		}
	}
}

func mounts(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func readlink(t *testing.T, path string) string {
	t.Helper()
	target, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// leaveEnv has TestMachineIsLeft start a machine and wait to be killed.
const leaveEnv = "DAMASK_MACHINE_LEFT"

func TestMachineIsLeft(t *testing.T) {
	if os.Getenv(leaveEnv) == "" {
		t.Skip("TestNothingIsLeftOfATestThatIsKilled starts it")
	}
	m := start(t)
	m.Start(t, "sleep", "/bin/sleep", "infinity")
	fmt.Println(m.dir)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestNothingIsLeftOfATestThatIsKilled(t *testing.T) {
	test := exec.Command("/proc/self/exe", "-test.run=^TestMachineIsLeft$")
	test.Env, test.Stderr = append(os.Environ(), leaveEnv+"=1"), os.Stderr
	out, err := test.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := test.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	proctest.Need(t)
	process := proctest.Start(t, test)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the test did not say where its machine is: %v", err)
	}
	dir := strings.TrimSpace(line)
	process.Kill()
	hierarchies, err := hierarchies()
	if err != nil || len(hierarchies) == 0 {
		t.Fatalf("find cgroups: %v, %v", hierarchies, err)
	}
	left := []string{dir}
	for _, h := range hierarchies {
		left = append(left, filepath.Join(h.Parent, filepath.Base(dir)))
	}
	gone := func(path string) bool {
		_, err := os.Stat(path)
		return os.IsNotExist(err)
	}
	ticker := time.NewTicker(careStep)
	defer ticker.Stop()
	for limit := time.Now().Add(careLimit); len(left) > 0; <-ticker.C {
		if left = slices.DeleteFunc(left, gone); time.Now().After(limit) {
			t.Fatalf("there is still %v", left)
		}
	}
}

func TestHierarchiesAreThoseOfVersionOne(t *testing.T) {
	got := readHierarchies(
		"30 22 0:27 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"+
			"31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"+
			"39 30 0:36 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n"+
			"40 30 0:37 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
		"9:name=systemd:/session\n8:pids:/\n1:cpu,cpuacct:/\n0::/\n")
	want := []hierarchy{
		{Point: "/sys/fs/cgroup/cpu,cpuacct", Options: "cpu,cpuacct", Parent: "/sys/fs/cgroup/cpu,cpuacct"},
		{Point: "/sys/fs/cgroup/systemd", Options: "name=systemd", Parent: "/sys/fs/cgroup/systemd/session"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}
