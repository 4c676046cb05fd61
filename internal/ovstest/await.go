package ovstest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/proctest"
)

// await runs a command that returns when the daemon answers, and gives up as soon
// as the daemon ends instead of waiting for the command's own time limit.
func (s *Switch) await(t testing.TB, daemon *proctest.Process, program string, args ...string) {
	t.Helper()
	var said strings.Builder
	cmd := s.Command(program, append([]string{"--timeout=" + waitSeconds}, args...)...)
	cmd.Stdout, cmd.Stderr = &said, &said
	asking := proctest.Start(t, cmd)
	select {
	case <-asking.Done():
		if err := asking.Err(); err != nil {
			t.Fatalf("wait for the switch: %s: %v\n%s", strings.Join(cmd.Args, " "), err, said.String())
		}
	case <-daemon.Done():
		asking.Kill()
		t.Fatalf("wait for the switch: a daemon ended at start: %v", daemon.Err())
	}
}

// awaitSocket returns when somebody listens on the database's socket. It polls,
// since ovsdb-server announces nothing; `ovs-vsctl --retry` would poll once a second.
func (s *Switch) awaitSocket(t testing.TB) {
	t.Helper()
	const step, limit = 2 * time.Millisecond, 30 * time.Second
	ticker, deadline := time.NewTicker(step), time.NewTimer(limit)
	defer ticker.Stop()
	defer deadline.Stop()
	for {
		conn, err := net.Dial("unix", s.DBSocket())
		if err == nil {
			_ = conn.Close()
			return
		}
		if !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("wait for %s: %v", s.DBSocket(), err)
		}
		select {
		case <-ticker.C:
		case <-s.database.Done():
			t.Fatalf("wait for %s: ovsdb-server ended: %v", s.DBSocket(), s.database.Err())
		case <-deadline.C:
			t.Fatalf("wait for %s: %v", s.DBSocket(), err)
		}
	}
}

// shortDir is the test's temporary directory, or one directly in /tmp where the
// former is too deep: the path of a unix socket has at most 107 bytes.
func shortDir(t testing.TB) string {
	t.Helper()
	const limit = 107 - len("/ovs-vswitchd.ctl") - len("spare")
	dir := t.TempDir()
	if len(dir) <= limit {
		return dir
	}
	dir, err := os.MkdirTemp("/tmp", "ovstest") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// showLogs shows the end of the daemons' logs beside a failure.
func (s *Switch) showLogs(t testing.TB) {
	if !t.Failed() {
		return
	}
	for _, name := range []string{"ovsdb-server", "ovs-vswitchd"} {
		text, err := os.ReadFile(s.path(name + ".log"))
		if err != nil {
			text = fmt.Append(nil, err)
		}
		t.Logf("end of the log of %s:\n%s", name, text[max(0, len(text)-logTail):])
	}
}

func pidText(p *proctest.Process) string { return strconv.Itoa(p.Pid()) }
