package machine

import (
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// stopGrace is how long a program has after SIGTERM before it is killed.
const stopGrace = 10 * time.Second

// Process is a program on a machine, or its first one. It ends with the machine.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; read only after done is closed
}

// launch starts a command on a thread that first does what enter says, which changes
// the thread for good: so it serves nobody else, and ends when the program has ended.
func launch(cmd *exec.Cmd, enter func() error) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		err := enter()
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// Pid is the number of the process as the host sees it.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the program ended. It waits for the end.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Kill ends the program as kill -9 does, and returns when it is gone.
func (p *Process) Kill() {
	// The only error is that it has ended.
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop ends the program with SIGTERM, or with SIGKILL when that takes too long.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-p.done:
	case <-grace.C:
		p.Kill()
	}
}
