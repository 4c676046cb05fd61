package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

func reaper(t *testing.T) *Reaper {
	t.Helper()
	r := NewReaper()
	ctx, cancel := context.WithCancel(context.Background()) // cleanups still need it
	t.Cleanup(cancel)
	go func() { _ = r.Run(ctx) }()
	return r
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestOutputPassesInputAndOutputAndSaysHowTheCommandEnded(t *testing.T) {
	r := reaper(t)
	large := strings.Repeat("0123456789abcdef", 1<<16) // more than a pipe holds
	out, err := r.Output(soon(t), enter.Namespaces{}, exec.Command("cat"), []byte(large))
	if err != nil || string(out) != large {
		t.Errorf("got %d bytes and %v, want %d", len(out), err, len(large))
	}
	out, err = r.Output(soon(t), enter.Namespaces{}, exec.Command("sh", "-c", "echo out; echo why >&2; exit 7"), nil)
	var failure *Failure
	if !errors.As(err, &failure) || failure.Status.ExitStatus() != 7 || strings.TrimSpace(failure.Stderr) != "why" || string(out) != "out\n" {
		t.Errorf("got %q and %v", out, err)
	}
	if _, err = r.Output(soon(t), enter.Namespaces{}, exec.Command("/nonexistent"), nil); err == nil {
		t.Error("a program that is not there was started")
	}
	if _, err = r.Output(soon(t), enter.Namespaces{}, exec.Command("sh", "-c", "kill -USR1 $$"), nil); err == nil || !strings.Contains(err.Error(), "signal: user defined signal 1") {
		t.Errorf("got %v", err)
	}
}

func TestOutputKillsACommandWhoseTimeIsOver(t *testing.T) {
	r := reaper(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Output(ctx, enter.Namespaces{}, exec.Command("sleep", "1000"), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
}

func TestManyShortCommandsAtOnceAllGetTheirOwnStatus(t *testing.T) {
	r := reaper(t)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 20 {
				want := (worker*20 + i) % 100
				_, err := r.Output(soon(t), enter.Namespaces{}, exec.Command("sh", "-c", fmt.Sprintf("exit %d", want)), nil)
				got := 0
				var failure *Failure
				if errors.As(err, &failure) {
					got = failure.Status.ExitStatus()
				} else if err != nil {
					t.Error(err)
				}
				if got != want {
					t.Errorf("got exit code %d, want %d", got, want)
				}
			}
		})
	}
	wg.Wait()
}

func TestOrphansAreBuried(t *testing.T) {
	r := reaper(t)
	// The shell ends before its child, which then is ours.
	out, err := r.Output(soon(t), enter.Namespaces{}, exec.Command("sh", "-c", "sleep 0.05 >/dev/null 2>&1 & echo $!"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(out), &pid); err != nil {
		t.Fatal(err)
	}
	// A zombie can still be signalled; what is buried cannot.
	for ctx := soon(t); unix.Kill(pid, 0) == nil; {
		select {
		case <-ctx.Done():
			t.Fatalf("process %d was not buried", pid)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestADaemonTellsWhetherItsEndWasAskedFor(t *testing.T) {
	r := reaper(t)
	d := NewDaemon(r, "d", filepath.Join(t.TempDir(), "d.log"))
	if got := d.Snapshot(); got.State != NotStarted || d.Ended() != nil {
		t.Errorf("before the start: %+v", got)
	}
	start := func(script string) {
		t.Helper()
		if err := d.Start(enter.Namespaces{}, exec.Command("sh", "-c", script)); err != nil {
			t.Fatal(err)
		}
	}
	start("echo one; exec sleep 1000")
	now := d.Snapshot()
	if now.State != Running || now.PID == 0 {
		t.Errorf("after the start: %+v", now)
	}
	// The number is the machine's: its /proc is mounted here.
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", now.PID)); err != nil {
		t.Error(err)
	}
	for ctx := soon(t); d.Tail(1, "") != "one"; {
		select {
		case <-ctx.Done():
			t.Fatal("the daemon's output is not in its log")
		case <-time.After(time.Millisecond):
		}
	}
	if err := d.Start(enter.Namespaces{}, exec.Command("true")); err == nil {
		t.Error("a daemon that runs was started again")
	}
	if err := d.Kill(unix.SIGSTOP); err != nil || !d.Running() {
		t.Errorf("a signal that ends nothing: %v, %+v", err, d.Snapshot())
	}
	if err := d.Kill(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := d.Snapshot(); got.State != Killed || got.Ending != "signal: killed" || got.PID != 0 {
		t.Errorf("after the kill: %+v", got)
	}
	if err := d.Kill(unix.SIGTERM); err == nil || err.Error() != "d does not run" {
		t.Errorf("got %v for a daemon that does not run", err)
	}
	start("echo two; exit 3")
	<-d.Ended()
	if got := d.Snapshot(); got.State != Exited || got.Ending != "exit status 3" || got.Starts != 2 {
		t.Errorf("after its own end: %+v", got)
	}
	if got := d.Tail(10, "> "); got != "> one\n> two" {
		t.Errorf("got log %q", got)
	}
	if got := d.Tail(1, ""); got != "two" {
		t.Errorf("got the last line %q", got)
	}
}

func TestADaemonMayStartInNamespacesOfItsOwn(t *testing.T) {
	r := reaper(t)
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNET}
	child, err := r.Start(enter.Namespaces{}, cmd)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", child.PID()))
	if err != nil || theirs == ours {
		t.Errorf("got namespace %s, %v; ours is %s", theirs, err, ours)
	}
	out, err := r.Output(soon(t), enter.Process(child.PID()), exec.Command("ls", "/sys/class/net"), nil)
	if err != nil {
		t.Errorf("run a command in there: %q, %v", out, err)
	}
	if err := child.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-child.Done()
	if err := child.Signal(unix.SIGKILL); err != nil {
		t.Errorf("a signal to what has ended: %v", err)
	}
}
