package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/preflight"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/statedir"
)

func (c *commands) downCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Stop a lab, or remove what a crashed one left",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			command.SilenceUsage = true
			return c.down(command.OutOrStdout())
		},
	}
}

// endTimeout bounds the wait for the kernel to end all processes of a lab.
const endTimeout = 30 * time.Second

func (c *commands) down(out io.Writer) error {
	if err := preflight.Root(); err != nil {
		return err
	}
	dir, err := statedir.Of(c.name)
	if err != nil {
		return err
	}
	if !dir.Exists() {
		fmt.Fprintf(out, "there is no lab %q\n", c.name)
		return nil
	}
	running := dir.Running()
	if err := endLab(dir, running); err != nil {
		return fmt.Errorf("stop lab %q: %w", c.name, err)
	}
	if err := dir.Remove(); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	if running {
		fmt.Fprintf(out, "lab %q is down\n", c.name)
	} else {
		fmt.Fprintf(out, "lab %q had crashed; what it left in %s is removed\n", c.name, dir)
	}
	return nil
}

// endLab kills the first process of the lab if it lives, and returns when the
// kernel has ended all the others, which it also does after a crash.
func endLab(dir statedir.Dir, running bool) error {
	pid, err := dir.PID()
	if err != nil {
		if !running {
			return nil
		}
		return err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	switch {
	case running:
		// While the lock is held the number is the lab's.
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	case !isDamask(pid):
		return nil // the number is somebody else's by now
	}
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(endTimeout); ; {
		n, err := unix.Poll(ended, int(time.Until(deadline).Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("process %d still runs %s after it was killed", pid, endTimeout)
		}
		return nil
	}
}

// isDamask tells whether a process is of this program.
func isDamask(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err == nil && strings.TrimSpace(string(text)) == "damask"
}
