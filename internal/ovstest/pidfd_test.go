package ovstest_test

import (
	"errors"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// awaitPidfd fails the test when the process is still there after ten seconds.
func awaitPidfd(t *testing.T, pid string) {
	t.Helper()
	number, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(number, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatalf("open pidfd of %s: %v", pid, err)
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	if err != nil || n == 0 {
		t.Errorf("process %s outlives the test that started it (poll: %d, %v)", pid, n, err)
	}
}
