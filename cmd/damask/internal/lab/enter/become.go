package enter

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// lifeline is the descriptor on which a command notices that its parent is gone
// before it could ask to be told.
const lifeline = 3

// Run runs a command inside the namespaces and kills it when the calling process
// ends, in whatever way, before it. The program is started by way of this one:
// become are the arguments that make it call Become.
//
// os/exec could ask for the kill itself (Pdeathsig), but then checks that the
// parent lives by its number, which is 0 in another PID namespace.
func Run(ns Namespaces, cmd *exec.Cmd, become []string, started func(*os.Process)) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer write.Close()
	cmd.Args = append(append([]string{"damask"}, become...), append([]string{cmd.Path}, cmd.Args...)...)
	cmd.Path = "/proc/self/exe"
	cmd.ExtraFiles = []*os.File{read}
	err = Do(ns, func() error {
		err := cmd.Start()
		read.Close()
		if err != nil {
			return err
		}
		started(cmd.Process)
		// The thread that started the command has to live as long as the command.
		return cmd.Wait()
	})
	return err
}

// Become makes this process the program at the path, which is killed with its
// parent. It returns only when that fails.
func Become(path string, args []string) error {
	// The kernel keeps the wish for the thread that asks, which must be the one that
	// becomes the program.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("ask to be killed with the parent: %w", err)
	}
	parent := []unix.PollFd{{Fd: lifeline, Events: unix.POLLIN}}
	if _, err := unix.Poll(parent, 0); err != nil {
		return fmt.Errorf("look for the parent: %w", err)
	}
	if parent[0].Revents != 0 {
		return errors.New("the parent is gone")
	}
	unix.CloseOnExec(lifeline)
	return syscall.Exec(path, args, os.Environ())
}
