// Package machine makes machines that a kubelet takes for its own: each has network,
// mount, process, host name, IPC and cgroup namespaces, and the host's files below a
// layer of its own.
//
// It owns a machine's first process, its directory and its cgroups. It promises that
// nothing of a machine outlives the test, however the test ends: all processes of the
// machine end with the first one, which the kernel kills with the test, mounts end
// with the processes, and a caretaker that survives the test removes the directory and
// the cgroups. Nothing that runs on a machine changes a file of the host, or a setting
// of its kernel that a kubelet wants otherwise.
//
// It must not know what runs on a machine. Devices are the host's. Only cgroups of
// version 1 are known here.
package machine

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
)

// Config describes a machine.
type Config struct {
	// Name is its host name.
	Name string
	// Net is its network namespace.
	Net *netnstest.Namespace `json:"-"`
	// Files are files of the host, by their paths on the machine.
	Files map[string]string
	// Disks are directories of the machine that are empty and on the host's disk. All
	// else that is written on it is in memory.
	Disks []string
}

// Machine is one that runs.
type Machine struct {
	Net *netnstest.Namespace

	name    string
	dir     string
	cgroups cgroups
	init    *Process
	pidfd   int
}

// New starts a machine on which nothing runs yet, and takes it down when the test ends.
func New(t testing.TB, config Config) *Machine {
	t.Helper()
	proctest.Need(t)
	hierarchies, err := hierarchies()
	if err != nil {
		t.Fatalf("find cgroups: %v", err)
	}
	if len(hierarchies) == 0 {
		proctest.Lack(t, "cgroups of version 1 (those of version 2 cannot be used yet)")
	}
	m := &Machine{Net: config.Net, name: config.Name, pidfd: -1}
	m.care(t, hierarchies)
	boot, err := json.Marshal(bootOrder{Config: config, Dir: m.dir, Hierarchies: hierarchies})
	if err != nil {
		t.Fatal(err)
	}
	ready, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ready.Close() }()
	cmd := again(roleInit, string(boot))
	cmd.ExtraFiles, cmd.Stderr = []*os.File{theirs}, os.Stderr
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	m.init, err = launch(cmd, func() error {
		if err := m.cgroups.enter(); err != nil {
			return err
		}
		return unix.Setns(int(config.Net.File().Fd()), unix.CLONE_NEWNET)
	})
	_ = theirs.Close()
	if err != nil {
		t.Fatalf("start machine %s: %v", m.name, err)
	}
	t.Cleanup(m.init.Kill)
	line, err := bufio.NewReader(ready).ReadString('\n')
	if line = strings.TrimSpace(line); line != bootedWord {
		t.Fatalf("boot machine %s: %s (%v)", m.name, line, err)
	}
	if m.pidfd, err = unix.PidfdOpen(m.init.Pid(), 0); err != nil {
		t.Fatalf("machine %s: %v", m.name, err)
	}
	t.Cleanup(func() { _ = unix.Close(m.pidfd) })
	return m
}

// Name is the machine's host name.
func (m *Machine) Name() string { return m.name }

// Path is where the host finds a file of the machine.
func (m *Machine) Path(file string) string {
	return fmt.Sprintf("/proc/%d/root/%s", m.init.Pid(), strings.TrimPrefix(file, "/"))
}

// Write writes a file on the machine, and the directories above it.
func (m *Machine) Write(t testing.TB, file string, content []byte) {
	t.Helper()
	path := m.Path(file)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, content, 0o600)
	}
	if err != nil {
		t.Fatalf("write %s on %s: %v", file, m.name, err)
	}
}

// Start starts a program on the machine, whose path is one there. Its output is
// appended to a log of that name, whose end a test that failed shows.
func (m *Machine) Start(t testing.TB, name, program string, args ...string) *Process {
	t.Helper()
	log, err := os.OpenFile(m.log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	process, err := m.launch(cmd)
	if err != nil {
		t.Fatalf("start %s on %s: %v", name, m.name, err)
	}
	t.Cleanup(func() { m.showLog(t, name) })
	return process
}

// Run runs a program on the machine to its end and returns its output. It fails the
// test when the program does.
func (m *Machine) Run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := m.TryRun(program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TryRun is Run for what may fail. The error says what the program said.
func (m *Machine) TryRun(program string, args ...string) (string, error) {
	var stdout, stderr strings.Builder
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	process, err := m.launch(cmd)
	if err == nil {
		err = process.Err()
	}
	if err != nil {
		return "", fmt.Errorf("on %s: %s %s: %w\n%s%s", m.name, program, strings.Join(args, " "), err, &stdout, &stderr)
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}

// launch starts a command in all namespaces of the machine.
func (m *Machine) launch(cmd *exec.Cmd) (*Process, error) {
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return launch(cmd, func() error {
		if err := m.cgroups.enter(); err != nil {
			return err
		}
		// A thread that shares its working directory with others cannot go elsewhere.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		return unix.Setns(m.pidfd, unix.CLONE_NEWNS|unix.CLONE_NEWNET|unix.CLONE_NEWPID|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC|unix.CLONE_NEWCGROUP)
	})
}

func (m *Machine) log(name string) string { return filepath.Join(m.dir, name+".log") }

// showLog shows the end of a log beside a failure.
func (m *Machine) showLog(t testing.TB, name string) {
	if !t.Failed() {
		return
	}
	text, err := os.ReadFile(m.log(name))
	if err != nil {
		text = fmt.Append(nil, err)
	}
	t.Logf("end of the log of %s on %s:\n%s", name, m.name, text[max(0, len(text)-logTail):])
}

// logTail is how many bytes of a log are shown when a test fails.
const logTail = 5000
