// Package labtest runs a package's tests as a lab's supervisor runs: as process 1
// of a PID namespace, with a mount and a network namespace of their own.
//
// It promises that nothing that a test leaves outlives the test program, and that
// the host's network and files are out of reach of a wrong test.
// Used by the tests of the lab's packages.
package labtest

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/nodeinit"
)

// NodeInit is what starts the first process of a node in these tests: the test
// program itself.
func NodeInit(name string) []string { return []string{"/proc/self/exe", "lab-node", name} }

// Main is a TestMain. hide are directories of the host that the tests get empty.
func Main(m *testing.M, hide ...string) {
	os.Exit(run(m, hide))
}

func run(m *testing.M, hide []string) int {
	switch {
	case len(os.Args) > 2 && os.Args[1] == "lab-node":
		fmt.Fprintln(os.Stderr, nodeinit.Run(os.Args[2]))
		return 1
	case os.Getpid() == 1:
		if err := settle(hide); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	case os.Getuid() != 0 && os.Getenv("DAMASK_REQUIRE_REAL") != "1":
		fmt.Println("skipped: these tests need root")
		return 0
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		Pdeathsig:  unix.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func settle(hide []string) error {
	if err := nodeinit.PrivateRun(); err != nil {
		return err
	}
	for _, dir := range hide {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("hide %s: %w", dir, err)
		}
	}
	return nil
}
