package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/test/kernel/control"
)

// minClock is the age of the machine at which the command starts, in seconds.
// ovs-vswitchd 3.1 counts processors only once CLOCK_MONOTONIC is past 10 s: until
// then it takes the machine to have none, starts no handler threads, and loses
// every packet that the kernel's datapath hands up. A time namespace, in which the
// clock is ahead, is no way around it: the kernel tells ovs-vswitchd by its own clock
// when a flow was used last, all flows look unused, and none stays in the datapath.
const minClock = 10.1

// lateOutput is how long the output of what the command leaves behind is waited
// for.
const lateOutput = 2 * time.Second

// execute runs the command. Its output goes to the port as it comes.
func execute(job control.Job, requests *bufio.Reader, output io.Writer) (*control.Ending, error) {
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	path, err := lookPath(job.Args[0], job.Env)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, job.Args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = job.Dir, job.Env, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run %s: %w", job.Args[0], err)
	}
	theirs.Close()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(output, ours) // a host that does not listen any more ends the machine
	}()
	go serve(requests, cmd.Process.Pid)
	code, err := bury(cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	select {
	case <-copied:
	case <-time.After(lateOutput):
	}
	return &control.Ending{Code: code, Clock: clock(), MemoryFree: memoryAvailable()}, nil
}

// comeOfAge waits until ovs-vswitchd can count.
func comeOfAge() {
	time.Sleep(time.Duration((minClock - clock()) * float64(time.Second)))
}

// lookPath finds a program in the PATH of an environment.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, e := range env {
		dirs, found := strings.CutPrefix(e, "PATH=")
		if !found {
			continue
		}
		for dir := range strings.SplitSeq(dirs, ":") {
			if path := dir + "/" + name; unix.Access(path, unix.X_OK) == nil {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("there is no program %s in the PATH", name)
}

// bury collects every child and orphan until the command has ended, and answers
// its exit code.
func bury(command int) (int, error) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for the command: %w", err)
		case pid != command:
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		case status.Exited():
			return status.ExitStatus(), nil
		}
	}
}

// memoryAvailable is in KiB; 0 when it is not known.
func memoryAvailable() uint64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var kib uint64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); n == 1 {
			return kib
		}
	}
	return 0
}
