// Package vm runs one command in a virtual machine, as if it ran here.
//
// It owns the qemu process and the machine's serial ports. It promises that the
// machine ends with Run, whatever happens, and that one that hangs is ended at
// the limit and tells what it was doing. The machine has no network: nothing of
// the host's can be touched. It must not know what the command is for.
package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/damask-sdn/damask/test/kernel/control"
)

// Config is a machine.
type Config struct {
	// Boot is the kernel that qemu starts, Initramfs its first root.
	Boot, Initramfs string
	// Accelerator is KVM or TCG.
	Accelerator string
	// CPUs and Memory, in MiB. The host lends only what is used.
	CPUs, Memory int
	// Limit ends a machine that hangs, counted from its start.
	Limit time.Duration
	// Console is the file that the machine's log goes to.
	Console string
}

// Result is how the command ended and what it took.
type Result struct {
	// Code is the command's exit code.
	Code int
	// Boot is the time from qemu's start until the command ran.
	Boot time.Duration
	// Total is the time until the machine was off.
	Total time.Duration
	// Processor is the time that qemu had a processor of the host.
	Processor time.Duration
	// MemoryFree is what was available at the end, in KiB.
	MemoryFree uint64
}

// ErrLimit is Run's answer when the limit was reached.
var ErrLimit = errors.New("the virtual machine was not done in time")

// ErrDied is Run's answer when the machine ended without a result.
var ErrDied = errors.New("the virtual machine ended without a result")

// lastWords is how long a machine that hangs may take to tell what it is doing.
const lastWords = 20 * time.Second

// Run boots the machine, runs the job, and copies what it prints to output.
func Run(ctx context.Context, config Config, job control.Job, output io.Writer) (*Result, error) {
	dir, err := os.MkdirTemp("", "damask-vm")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ctx, kill := context.WithCancel(ctx)
	defer kill()
	lines, err := listen(ctx, dir, control.Port)
	if err != nil {
		return nil, err
	}
	out, err := listen(ctx, dir, control.OutputPort)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", arguments(config, lines.Addr().String(), out.Addr().String())...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var complaints tail
	cmd.Stdout, cmd.Stderr = &complaints, &complaints
	if err := cmd.Start(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			err = errors.New("qemu-system-x86_64 is not installed: `tools/install-packages.sh kernel` installs what is missing")
		}
		return nil, err
	}
	s := &session{job: job, begin: begin, limit: config.Limit, kill: kill}
	copied := make(chan error, 1)
	go func() { copied <- copyOutput(out, output) }()
	talked := make(chan error, 1)
	go func() { talked <- s.talk(lines) }()
	waitErr := cmd.Wait()
	// A machine that never came to its ports leaves nobody to talk to.
	err = errors.Join(lines.Close(), out.Close(), <-talked, <-copied)
	s.result.Processor = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return s.judge(ctx, err, waitErr, complaints.String())
}

// listen waits for qemu on a socket.
func listen(ctx context.Context, dir, name string) (*net.UnixListener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "unix", filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil
}

func copyOutput(from *net.UnixListener, to io.Writer) error {
	conn, err := from.Accept()
	if err != nil {
		return nil // qemu ended before; its end says why
	}
	defer conn.Close()
	_, err = io.Copy(to, conn)
	return err
}

// arguments are qemu's.
func arguments(c Config, lines, output string) []string {
	cpu := "host"
	if c.Accelerator == TCG {
		// Without ERMS and FSRM the kernel and libc copy in words and not by
		// `rep movsb`, which the emulation does a byte at a time.
		cpu = "max,la57=off,erms=off,fsrm=off"
	}
	accelerator := c.Accelerator
	if accelerator == TCG {
		// The programs of a lab come to 400 MiB of translated code. What does not fit
		// makes the emulation forget all of it, and translate again what it needs.
		accelerator += ",thread=multi,tb-size=1024"
	}
	return []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "pc", "-accel", accelerator,
		"-cpu", cpu, "-smp", strconv.Itoa(c.CPUs), "-m", strconv.Itoa(c.Memory),
		"-kernel", c.Boot, "-initrd", c.Initramfs, "-append", commandLine,
		"-serial", "file:" + c.Console,
		// The host's files do not change for the machine while it runs; other file
		// systems below / are seen too.
		"-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
		"-device", "virtio-9p-pci,fsdev=root,mount_tag=" + control.RootTag,
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=control,path=" + lines, "-device", "virtserialport,chardev=control,nr=1,name=" + control.Port,
		"-chardev", "socket,id=output,path=" + output, "-device", "virtserialport,chardev=output,nr=2,name=" + control.OutputPort,
	}
}

// commandLine is the kernel's: a panic ends the machine, and what only costs time
// under emulation is off. clearcpuid takes back X86_FEATURE_REP_GOOD, ERMS and FSRM
// (112, 297, 580: arch/x86/include/asm/cpufeatures.h) for the same reason as above.
// norandmaps: the emulation translates code by its address, and a program that is
// somewhere else at each start is translated anew each time. no_timer_check and
// nowatchdog: a host that is busy makes clocks look broken.
const commandLine = "console=ttyS0 loglevel=4 panic=-1 oops=panic mitigations=off nokaslr audit=0 selinux=0 apparmor=0 " +
	"tsc=reliable random.trust_cpu=on init_on_alloc=0 clearcpuid=112,297,580 transparent_hugepage=never net.ifnames=0 norandmaps no_timer_check nowatchdog"

// judge tells how the machine ended.
func (s *session) judge(ctx context.Context, err, waitErr error, complaints string) (*Result, error) {
	s.result.Total = time.Since(s.begin)
	switch {
	case s.limited:
		return nil, fmt.Errorf("%w: the limit is %s", ErrLimit, s.limit)
	case s.failure != "":
		return nil, fmt.Errorf("%w: %s", ErrDied, s.failure)
	case s.ended:
		return &s.result, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("%w: %w: %s", ErrDied, errors.Join(waitErr, err), complaints)
}
