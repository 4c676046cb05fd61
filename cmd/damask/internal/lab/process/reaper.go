// Package process starts the processes of a lab and knows how they ended.
//
// It owns all children of the supervisor, which is process 1 of the lab and so
// inherits every orphan in it. It promises that no child stays a zombie, that a
// signal never reaches another process than the one meant, and that what a
// process wrote is in its log. It must not decide what to start, and it starts
// nothing again by itself. Nothing else in the supervisor may wait for children:
// os/exec's Wait would miss statuses that are collected here.
package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
)

// Reaper collects the exit statuses of all children of this process.
type Reaper struct {
	// starting is held for reading while a child is between its birth and its entry
	// in children, so that its status cannot be taken for a stranger's.
	starting sync.RWMutex

	mu       sync.Mutex
	children map[int]*Child
}

// NewReaper returns a reaper. It works while Run does.
func NewReaper() *Reaper { return &Reaper{children: map[int]*Child{}} }

// Run collects statuses until the context ends.
func (r *Reaper) Run(ctx context.Context) error {
	news := make(chan os.Signal, 1)
	signal.Notify(news, unix.SIGCHLD)
	defer signal.Stop(news)
	for {
		r.collect()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-news:
		}
	}
}

// collect takes all statuses that are there.
func (r *Reaper) collect() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid == 0 {
			return
		}
		r.deliver(pid, status)
	}
}

func (r *Reaper) deliver(pid int, status unix.WaitStatus) {
	r.starting.Lock()
	defer r.starting.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if child, known := r.children[pid]; known {
		delete(r.children, pid)
		child.end(status)
	}
}

// Start starts the command inside the namespaces. Its standard files must be nil
// or of type *os.File. The context is only for the start.
func (r *Reaper) Start(ns enter.Namespaces, cmd *exec.Cmd) (*Child, error) {
	child := &Child{done: make(chan struct{})}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.PidFD = &child.pidfd
	r.starting.RLock()
	defer r.starting.RUnlock()
	if err := enter.Start(ns, cmd); err != nil {
		return nil, err
	}
	// The number that the machine sees, because /proc here is the machine's.
	child.pid = machinePID(child.pidfd)
	r.mu.Lock()
	r.children[cmd.Process.Pid] = child
	r.mu.Unlock()
	return child, cmd.Process.Release()
}

// machinePID reads the process id behind a pidfd as /proc numbers it; 0 when the
// process is gone.
func machinePID(pidfd int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, "Pid:"); found {
			pid, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil || pid < 0 {
				return 0
			}
			return pid
		}
	}
	return 0
}

// Child is one started process.
type Child struct {
	pid  int
	done chan struct{}

	mu     sync.Mutex
	pidfd  int
	ended  bool
	status unix.WaitStatus
}

// PID is the process's id as the machine sees it.
func (c *Child) PID() int { return c.pid }

// Done is closed when the process has ended and its status is collected.
func (c *Child) Done() <-chan struct{} { return c.done }

// Signal sends a signal. It is no error when the process has ended.
func (c *Child) Signal(sig unix.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil
	}
	if err := unix.PidfdSendSignal(c.pidfd, sig, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("signal process %d: %w", c.pid, err)
	}
	return nil
}

// Status is how the process ended; only valid after Done.
func (c *Child) Status() unix.WaitStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

func (c *Child) end(status unix.WaitStatus) {
	c.mu.Lock()
	c.ended, c.status = true, status
	unix.Close(c.pidfd)
	c.mu.Unlock()
	close(c.done)
}

// Words says how a process ended: "exit status 1", "signal: killed".
func Words(status unix.WaitStatus) string {
	if status.Signaled() {
		return "signal: " + status.Signal().String()
	}
	return "exit status " + strconv.Itoa(status.ExitStatus())
}
