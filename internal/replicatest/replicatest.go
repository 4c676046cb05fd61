// Package replicatest runs replicas of a control service as processes of their own,
// which a test can kill.
//
// It owns how a test binary becomes the daemon, a replica's configuration file and
// its log, and how clients go on while replicas die. It promises that no replica
// outlives the test (package proctest). It must not know any service: a test brings the
// configuration and the requests.
package replicatest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/damask-sdn/damask/internal/proctest"
)

// asDaemon is the environment variable that makes the test binary the daemon.
const asDaemon = "DAMASK_TEST_REPLICA"

// Main is a service's TestMain: it runs the tests or, in a replica's process, the
// daemon, which answers its exit code.
func Main(m *testing.M, daemon func() int) {
	if os.Getenv(asDaemon) != "" {
		os.Exit(daemon())
	}
	os.Exit(m.Run())
}

// Replica is a replica in a process of its own.
type Replica struct {
	t           *testing.T
	name        string
	config, log string
	running     *proctest.Process
}

// Start writes a configuration file and starts a replica with it. The name is what
// its log is told by. It fails the test when that cannot be done.
func Start(t *testing.T, name string, config any) *Replica {
	t.Helper()
	dir := t.TempDir()
	r := &Replica{t: t, name: name, config: filepath.Join(dir, "config.yaml"), log: filepath.Join(dir, "log")}
	text, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	r.Restart()
	return r
}

// Restart starts a replica again that was killed.
func (r *Replica) Restart() {
	r.t.Helper()
	log, err := os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	command := exec.Command(os.Args[0], "-config", r.config)
	command.Env = append(os.Environ(), asDaemon+"=1")
	command.Stdout, command.Stderr = log, log
	r.running = proctest.Start(r.t, command)
}

// Kill ends the replica by SIGKILL, and returns when it is gone.
func (r *Replica) Kill() { r.running.Kill() }

// Complaints is what the replica logged, for a test that failed.
func (r *Replica) Complaints() string {
	text, err := os.ReadFile(r.log)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s:\n%s", r.name, text)
}

// Loopback answers addresses of this machine that are the test's own: each process
// has a network 127.x.y.0/24 of its number.
func Loopback(host int) string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 1+pid>>8%250, pid&0xff, host)
}
