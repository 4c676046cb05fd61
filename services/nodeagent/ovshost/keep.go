package ovshost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// stopGrace is how long a daemon has after SIGTERM. ovs-vswitchd ends in
	// milliseconds unless its datapath hangs.
	stopGrace = 10 * time.Second
	// A daemon that ends at once again and again is started with growing pauses.
	firstPause = 50 * time.Millisecond
	lastPause  = 10 * time.Second
	// steady is how long a daemon has run when its end is a new misfortune.
	steady = time.Minute
)

// keep runs a daemon until ctx ends, and starts it again when it ends before. Where
// another one has taken its place meanwhile, it waits for that one. It returns an error
// only when there is no such program.
func (c *Config) keep(ctx context.Context, log hclog.Logger, name string, args ...string) error {
	log = log.With("daemon", name)
	path, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("this host has no %s (Debian: package openvswitch-switch): %w", name, err)
	}
	pause := firstPause
	for {
		if err := awaitFree(ctx, c.pidfile(name), log); err != nil {
			return err
		}
		started := time.Now()
		how := c.once(ctx, log, path, append(args, "--pidfile="+c.pidfile(name), "-vconsole:info", "-vsyslog:off", "-vfile:off"))
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(started) > steady {
			pause = firstPause
		}
		log.Error("the daemon ended; starting it again", "how", how, "in", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		pause = min(2*pause, lastPause)
	}
}

// once runs a daemon to its end and answers how it ended. The kernel ends it with the
// thread that started it, so it never outlives this process: hence a thread that waits.
// SIGTERM leaves the kernel's datapath and what it has cached as it is.
func (c *Config) once(ctx context.Context, log hclog.Logger, path string, args []string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = c.environment(), os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	if err := cmd.Start(); err != nil {
		return err
	}
	log.Info("the daemon runs", "pid", cmd.Process.Pid)
	err := cmd.Wait()
	if err == nil {
		return errors.New("it ended by itself")
	}
	return err
}
