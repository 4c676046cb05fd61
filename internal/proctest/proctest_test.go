package proctest_test

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/proctest"
)

func TestProgramSurvivesTheEndOfOtherThreads(t *testing.T) {
	cat := exec.Command("cat")
	input, err := cat.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	process := proctest.Start(t, cat)
	// Each of these goroutines takes its thread along when it ends.
	for range 20 {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			runtime.LockOSThread()
		}()
		<-ended
	}
	_ = input.Close()
	if err := process.Err(); err != nil {
		t.Errorf("the program did not end by itself: %v", err)
	}
}

func TestStopIsHarmlessAfterTheEnd(t *testing.T) {
	process := proctest.Start(t, exec.Command("true"))
	<-process.Done()
	process.Stop()
	process.Kill()
}

func TestKillEndsAProgramThatIgnoresOtherSignals(t *testing.T) {
	process := proctest.Start(t, exec.Command("sh", "-c", "trap '' TERM; exec sleep 600"))
	process.Kill()
	if err := process.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v, want that it was killed", err)
	}
}

// recorder is a test that only remembers how it ended.
type recorder struct {
	testing.TB
	skipped, failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Skipf(string, ...any)  { r.skipped = true }
func (r *recorder) Fatalf(string, ...any) { r.failed = true; runtime.Goexit() }

func TestMissingProgramSkipsOrFails(t *testing.T) {
	for _, c := range []struct {
		name, require   string
		skipped, failed bool
	}{
		{"skips on a developer's machine", "", true, false},
		{"fails where nothing may be skipped", "1", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(proctest.RequireRealEnv, c.require)
			r := &recorder{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				proctest.Need(r, "no-such-program")
			}()
			<-done
			if r.skipped != c.skipped || r.failed != c.failed {
				t.Errorf("got skipped %v, failed %v", r.skipped, r.failed)
			}
		})
	}
}
