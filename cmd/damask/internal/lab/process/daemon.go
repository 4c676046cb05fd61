package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
)

// State is whether a daemon runs.
type State int

const (
	// NotStarted is before the first start.
	NotStarted State = iota
	// Running is what it says.
	Running
	// Exited is an end that nobody asked for.
	Exited
	// Killed is an end that was asked for.
	Killed
)

// Daemon is a process that is meant to run until the lab ends. What has ended
// stays ended until it is started again.
type Daemon struct {
	// Name is what the lab calls it.
	Name string
	// Log is the file that gets its output.
	Log string

	reaper *Reaper

	mu      sync.Mutex
	child   *Child
	ended   chan struct{}
	state   State
	ending  string
	asked   bool
	started time.Time
	starts  int
}

// NewDaemon describes a daemon that does not run yet.
func NewDaemon(reaper *Reaper, name, log string) *Daemon {
	return &Daemon{Name: name, Log: log, reaper: reaper}
}

// Snapshot is the state of a daemon at one moment.
type Snapshot struct {
	// State is whether it runs.
	State State
	// PID is its id as the machine sees it, 0 when it does not run.
	PID int
	// Ending is how it ended, in words.
	Ending string
	// Started is when it was started last.
	Started time.Time
	// Starts is how often it was started.
	Starts int
}

// Snapshot tells the present state.
func (d *Daemon) Snapshot() Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Snapshot{State: d.state, Ending: d.ending, Started: d.started, Starts: d.starts}
	if d.state == Running {
		s.PID = d.child.PID()
	}
	return s
}

// Running tells whether it runs.
func (d *Daemon) Running() bool { return d.Snapshot().State == Running }

// Start starts the command as this daemon, inside the namespaces. Its output is
// appended to the log. It is an error when the daemon runs already.
func (d *Daemon) Start(ns enter.Namespaces, cmd *exec.Cmd) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state == Running {
		return fmt.Errorf("start %s: it runs already", d.Name)
	}
	log, err := os.OpenFile(d.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", d.Name, err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	child, err := d.reaper.Start(ns, cmd)
	if err != nil {
		return fmt.Errorf("start %s: %w", d.Name, err)
	}
	d.child, d.state, d.ending, d.asked = child, Running, "", false
	d.started = time.Now()
	d.starts++
	d.ended = make(chan struct{})
	go d.watch(child, d.ended)
	return nil
}

// watch notes the end of one run.
func (d *Daemon) watch(child *Child, ended chan struct{}) {
	<-child.Done()
	defer close(ended)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = Exited
	if d.asked {
		d.state = Killed
	}
	d.ending = Words(child.Status())
}

// Ended is closed when the present run has ended; it is nil before the first start.
func (d *Daemon) Ended() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ended
}

// endTimeout bounds how long Kill waits for the end after a signal that a process
// may handle first. Agents drain their calls in less.
const endTimeout = 20 * time.Second

// Kill sends the signal. After one that ends processes it returns when the daemon
// has ended. It is an error when the daemon does not run.
func (d *Daemon) Kill(sig unix.Signal) error {
	d.mu.Lock()
	child, ended, running := d.child, d.ended, d.state == Running
	ends := endsProcesses(sig)
	if running && ends {
		d.asked = true
	}
	d.mu.Unlock()
	if !running {
		return fmt.Errorf("%s does not run", d.Name)
	}
	if err := child.Signal(sig); err != nil {
		return err
	}
	if !ends {
		return nil
	}
	return d.awaitEnd(ended, sig)
}

// Expect tells the daemon that its end will be asked for by other means, such as
// the end of its node.
func (d *Daemon) Expect() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = true
}

func (d *Daemon) awaitEnd(ended <-chan struct{}, sig unix.Signal) error {
	select {
	case <-ended:
		return nil
	case <-time.After(endTimeout):
		return fmt.Errorf("%s still runs %s after %s", d.Name, endTimeout, unix.SignalName(sig))
	}
}

// endsProcesses tells whether a process is expected to end by the signal.
func endsProcesses(sig unix.Signal) bool {
	return slices.Contains([]unix.Signal{
		unix.SIGKILL, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGABRT, unix.SIGSEGV, unix.SIGBUS, unix.SIGILL, unix.SIGFPE,
	}, sig)
}

// Tail is the end of the daemon's log, at most n lines, each with the prefix.
func (d *Daemon) Tail(n int, prefix string) string {
	const window = 64 << 10
	file, err := os.Open(d.Log)
	if err != nil {
		return prefix + err.Error()
	}
	defer file.Close()
	if size, err := file.Seek(0, io.SeekEnd); err == nil {
		_, err = file.Seek(max(0, size-window), io.SeekStart)
		if err != nil {
			return prefix + err.Error()
		}
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return prefix + err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return prefix + strings.Join(lines[max(0, len(lines)-n):], "\n"+prefix)
}

// ErrEnded is what a wait for a daemon returns when the daemon ended instead.
var ErrEnded = errors.New("it ended")
