package pod

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// endProcesses kills everything of the lab that runs in the network namespace at
// the path.
func endProcesses(path string) error {
	var namespace unix.Stat_t
	if err := unix.Stat(path, &namespace); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return fmt.Errorf("look at %s: %w", path, err)
	}
	wanted := fmt.Sprintf("net:[%d]", namespace.Ino)
	// /proc is the machine's; a signal wants the number of this PID namespace, which
	// stands in NSpid at the place of the last of our own.
	own, err := numbers("self")
	if err != nil {
		return err
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return err
	}
	for _, link := range links {
		// Processes come and go while we look: those that are gone need no signal.
		if at, err := os.Readlink(link); err != nil || at != wanted {
			continue
		}
		theirs, err := numbers(strings.Split(link, "/")[2])
		if err != nil || len(theirs) < len(own) {
			continue
		}
		if err := unix.Kill(theirs[len(own)-1], unix.SIGKILL); err != nil && err != unix.ESRCH {
			return fmt.Errorf("end a process of the pod: %w", err)
		}
	}
	return nil
}

// numbers are a process's ids, from the PID namespace of /proc inwards.
func numbers(pid string) ([]int, error) {
	text, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		fields, found := strings.CutPrefix(line, "NSpid:")
		if !found {
			continue
		}
		var all []int
		for _, field := range strings.Fields(fields) {
			number, err := strconv.Atoi(field)
			if err != nil {
				return nil, err
			}
			all = append(all, number)
		}
		return all, nil
	}
	return nil, errors.New("the kernel does not tell NSpid")
}
