package ovshost

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/proctest"
)

// asDaemon makes the test binary damask-ovs.
const asDaemon = "DAMASK_TEST_OVS"

// patience bounds each wait for something that comes by itself.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(asDaemon) != "" {
		os.Exit(daemon.Program[Config]{
			Name: "damask-ovs", Load: Load, Log: func(c Config) daemon.Log { return c.Log }, Run: Run,
		}.Main())
	}
	os.Exit(m.Run())
}

// host is a directory that stands for a host: what is in /run and /etc there.
type host struct {
	dir    string
	config Config
}

func newHost(t *testing.T) *host {
	t.Helper()
	proctest.Need(t, "ovsdb-server", "ovsdb-tool", "ovs-vswitchd", "ovs-vsctl", "ovs-appctl")
	// A socket's path has 107 characters at most, so a test's own directory is too long.
	dir, err := os.MkdirTemp("/tmp", "ovshost") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	config := Defaults()
	config.Database, config.RunDir, config.CPUs = filepath.Join(dir, "etc", "conf.db"), filepath.Join(dir, "run"), 1
	config.Arguments = []string{"--enable-dummy=override", "--disable-system", "--disable-system-route"}
	return &host{dir, config}
}

// instance is a damask-ovs that runs on a host.
type instance struct {
	*proctest.Process
	mu   sync.Mutex
	log  strings.Builder
	more chan struct{} // a line has come
}

// start starts damask-ovs on the host.
func (h *host) start(t *testing.T) *instance {
	t.Helper()
	text, err := yaml.Marshal(h.config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(h.dir, "ovs.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-config", file)
	cmd.Env = append(os.Environ(), asDaemon+"=1")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	i := &instance{more: make(chan struct{}, 1)}
	go i.read(r)
	i.Process = proctest.Start(t, cmd)
	w.Close()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("damask-ovs %d:\n%s", i.Pid(), i.text())
		}
	})
	return i
}

func (i *instance) read(r io.ReadCloser) {
	defer r.Close()
	for lines := bufio.NewScanner(r); lines.Scan(); {
		i.mu.Lock()
		i.log.WriteString(lines.Text() + "\n")
		i.mu.Unlock()
		select {
		case i.more <- struct{}{}:
		default:
		}
	}
}

func (i *instance) text() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.log.String()
}

// says waits until the instance has logged something.
func (i *instance) says(t *testing.T, part string) {
	t.Helper()
	limit := time.After(patience)
	for !strings.Contains(i.text(), part) {
		select {
		case <-i.more:
		case <-limit:
			t.Fatalf("it never says %q", part)
		}
	}
}

// ends waits for the instance's end.
func (i *instance) ends(t *testing.T) error {
	t.Helper()
	select {
	case <-i.Done():
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	return i.Err()
}

// vsctl asks the host's Open vSwitch, and returns when ovs-vswitchd has acted on a
// change.
func (h *host) vsctl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := h.config.vsctl(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (h *host) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := h.config.tool(t.Context(), name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// pid is the process of a daemon, by its pid file.
func (h *host) pid(t *testing.T, name string) int {
	t.Helper()
	text, err := os.ReadFile(h.config.pidfile(name))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// kill ends a daemon as kill -9 does.
func (h *host) kill(t *testing.T, name string) int {
	t.Helper()
	pid := h.pid(t, name)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	return pid
}

// change changes something that ovs-vswitchd has to act on.
func (h *host) change(t *testing.T, value string) {
	t.Helper()
	h.vsctl(t, "set", "Open_vSwitch", ".", "external_ids:test="+value)
}
