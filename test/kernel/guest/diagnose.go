package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/test/kernel/control"
)

// serve answers the host's requests while the command runs.
func serve(requests *bufio.Reader, command int) {
	for {
		var request control.Request
		if err := receive(requests, &request); err != nil {
			return // the host is gone, or speaks nonsense: it ends the machine
		}
		if request.Diagnose {
			diagnose()
			// A Go program answers this with what each goroutine does, on its output.
			_ = unix.Kill(-command, unix.SIGQUIT)
		}
	}
}

// diagnose prints on the console, which is the machine's log, what every process
// waits for, and lets the kernel add those that cannot be interrupted.
func diagnose() {
	fmt.Println("processes (pid, state, waiting in, command):")
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		command, _ := os.ReadFile(dir + "/cmdline")
		if len(command) == 0 {
			continue // the kernel's own
		}
		where, _ := os.ReadFile(dir + "/wchan")
		fmt.Printf("%6s %s %-20s %.150s\n", filepath.Base(dir), state(dir), where, strings.ReplaceAll(string(command), "\x00", " "))
	}
	_ = os.WriteFile("/proc/sysrq-trigger", []byte("w"), 0)
}

// state is the letter that ps(1) shows.
func state(dir string) string {
	text, _ := os.ReadFile(dir + "/stat")
	_, rest, _ := strings.Cut(string(text), ") ")
	letter, _, _ := strings.Cut(rest, " ")
	return letter
}
