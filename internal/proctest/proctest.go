// Package proctest starts real programs for tests.
//
// It promises that a program started here never outlives the test process: it is
// stopped when the test ends, and the kernel kills it when the test process dies
// in any other way (a panic, a timeout, kill -9).
//
// It also decides, in one place, what a test does on a machine that lacks root or
// a program: see Need. It must not know anything about the programs it starts.
// Used by netnstest, ovstest, and tests that start Damask's own daemons.
package proctest

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// RequireRealEnv is the environment variable that, set to "1", turns a skip for a
// missing program or missing root into a failure. CI sets it.
const RequireRealEnv = "DAMASK_REQUIRE_REAL"

// stopGrace is how long a program has after SIGTERM before it is killed. It only
// bounds a program that hangs: a healthy one is waited for, not slept for.
const stopGrace = 5 * time.Second

// Need skips the test unless it runs as root and every named program is in PATH.
// With DAMASK_REQUIRE_REAL=1 it fails the test instead, so CI cannot skip.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	var missing []string
	if os.Getuid() != 0 {
		missing = append(missing, "root")
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	if len(missing) > 0 {
		Lack(t, strings.Join(missing, ", "))
	}
}

// Lack skips the test, which needs what is named and is not there. With
// DAMASK_REQUIRE_REAL=1 it fails the test instead.
func Lack(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(RequireRealEnv) == "1" {
		t.Fatalf("this test needs %s, and %s=1 forbids to skip it", what, RequireRealEnv)
	}
	t.Skipf("this test needs %s", what)
}

// Process is a program that runs beside the test.
type Process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; read only after done is closed
}

// Start starts cmd and stops it when the test ends. It fails the test when the
// program cannot be started. cmd.SysProcAttr keeps what the caller set, and gets a
// death signal in addition.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p := &Process{name: cmd.Path, cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", p.name, err)
	}
	t.Cleanup(p.Stop)
	return p
}

// run starts the program and waits for it, all on one thread. The kernel sends the
// death signal when the *thread* that started the child ends, not the process. Go
// ends a thread when a goroutine that is locked to it returns, so a child started
// from just any thread could be killed by somebody else's goroutine.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

// Done is closed when the program has ended, for whatever reason.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is what exec.Cmd.Wait returned. It waits for the end of the program.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Pid is the process number, also after the end.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal and does not wait. It does nothing after the end.
func (p *Process) Signal(signal syscall.Signal) {
	// The only error is "process already finished", which is what the caller may want.
	_ = p.cmd.Process.Signal(signal)
}

// Kill ends the program as kill -9 does, and returns when it is gone.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Stop ends the program with SIGTERM, or with SIGKILL when that takes longer than
// five seconds, and returns when it is gone. Calling it again does nothing.
func (p *Process) Stop() {
	p.Signal(syscall.SIGTERM)
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-p.done:
	case <-grace.C:
		p.Kill()
	}
}
