// Command guest is the first process of the virtual machine in which tests meet a
// real kernel datapath.
//
// It owns the machine's root: the host's files, read-only, under a scratch
// overlay in memory. It promises to run one command as the host asks on the
// control port, to pass its output and its exit code on, and to switch the machine
// off. It must not decide what is run.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/test/kernel/control"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest is the first process of a virtual machine: `go run ./test/kernel` starts it")
		os.Exit(2)
	}
	if err := run(); err != nil {
		// The console: the control port may be what failed.
		fmt.Println("guest:", err)
		time.Sleep(time.Second) // a serial line is slower than the power switch
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// run is the machine's whole life.
func run() error {
	if err := bootDrivers(); err != nil {
		return err
	}
	host, err := openPort(control.Port)
	if err != nil {
		return err
	}
	defer host.Close()
	output, err := openPort(control.OutputPort)
	if err != nil {
		return err
	}
	defer output.Close()
	lines := bufio.NewReader(host)
	var job control.Job
	if err := receive(lines, &job); err != nil {
		return fmt.Errorf("read what to run: %w", err)
	}
	report := json.NewEncoder(host)
	if err := enterRoot(job); err != nil {
		return report.Encode(control.Report{Failed: err.Error()})
	}
	comeOfAge()
	if err := report.Encode(control.Report{Booted: clock()}); err != nil {
		return err
	}
	ending, err := execute(job, lines, output)
	if err != nil {
		return report.Encode(control.Report{Failed: err.Error()})
	}
	return report.Encode(control.Report{Ended: ending})
}

// clock is the time since the machine's power was switched on, in seconds.
func clock() float64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return 0
	}
	return float64(now.Nano()) / 1e9
}
