package process

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
)

// Failure is a command that ended with something else than 0.
type Failure struct {
	// Command is the program's name and arguments.
	Command string
	// Status is how it ended.
	Status unix.WaitStatus
	// Stderr is what it said.
	Stderr string
}

// Error is the command, how it ended, and what it said.
func (f *Failure) Error() string {
	text := fmt.Sprintf("%s: %s", f.Command, Words(f.Status))
	if said := strings.TrimSpace(f.Stderr); said != "" {
		text += ": " + said
	}
	return text
}

// Output runs a command inside the namespaces until it ends and returns what it
// wrote to its standard output, also when it fails (with a *Failure). The command
// is killed when the context ends. Its Stdout and Stderr must be nil; its Stdin is
// what input holds.
func (r *Reaper) Output(ctx context.Context, ns enter.Namespaces, cmd *exec.Cmd, input []byte) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	pipes := &plumbing{}
	if len(input) > 0 {
		cmd.Stdin = pipes.feed(input)
	}
	cmd.Stdout = pipes.drain(&stdout)
	cmd.Stderr = pipes.drain(&stderr)
	if pipes.err != nil {
		pipes.closeAll()
		return nil, fmt.Errorf("make pipes: %w", pipes.err)
	}
	child, err := r.Start(ns, cmd)
	pipes.started(err)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	select {
	case <-child.Done():
	case <-ctx.Done():
		if err := child.Signal(unix.SIGKILL); err != nil {
			return nil, err
		}
		<-child.Done()
	}
	pipes.wait()
	if err := ctx.Err(); err != nil && child.Status().Signaled() {
		return stdout.Bytes(), fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	if status := child.Status(); status != 0 {
		return stdout.Bytes(), &Failure{Command: strings.Join(cmd.Args, " "), Status: status, Stderr: stderr.String()}
	}
	return stdout.Bytes(), nil
}

// plumbing is the pipes of one command; os/exec makes its own only for commands
// that it waits for itself.
type plumbing struct {
	theirs []*os.File
	ours   []*os.File
	jobs   []func()
	done   chan struct{}
	err    error
}

func (p *plumbing) pipe() (read, write *os.File) {
	if p.err != nil {
		return nil, nil
	}
	read, write, p.err = os.Pipe()
	return read, write
}

func (p *plumbing) feed(input []byte) *os.File {
	read, write := p.pipe()
	p.theirs, p.ours = append(p.theirs, read), append(p.ours, write)
	p.jobs = append(p.jobs, func() {
		// A command that does not read its input is not at fault for that.
		_, _ = write.Write(input)
		write.Close()
	})
	return read
}

func (p *plumbing) drain(into io.Writer) *os.File {
	read, write := p.pipe()
	p.theirs, p.ours = append(p.theirs, write), append(p.ours, read)
	p.jobs = append(p.jobs, func() {
		_, _ = io.Copy(into, read)
		read.Close()
	})
	return write
}

// started closes the command's ends here and moves data until they are closed
// there too.
func (p *plumbing) started(err error) {
	if err != nil {
		p.closeAll()
		return
	}
	for _, file := range p.theirs {
		file.Close()
	}
	p.done = make(chan struct{}, len(p.jobs))
	for _, job := range p.jobs {
		go func() {
			job()
			p.done <- struct{}{}
		}()
	}
}

func (p *plumbing) wait() {
	for range p.jobs {
		<-p.done
	}
}

func (p *plumbing) closeAll() {
	for _, file := range append(p.theirs, p.ours...) {
		if file != nil {
			file.Close()
		}
	}
}
