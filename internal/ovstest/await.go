package ovstest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

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
