// Command kernel runs a command in a virtual machine with a Debian kernel, as root,
// in the same directory and with the same files, so that it meets the kernel's own
// openvswitch, conntrack and iptables.
//
//	go run ./test/kernel [flags] COMMAND [ARGUMENT...]
//
// It owns .cache/kernel. It promises the command's output as it comes, and its exit
// code; 124 when the limit was reached and 125 when the machine ended without a
// result, with the machine's log. Nothing that the command does outlives it. It
// must not touch the host's network. Where its time goes is in README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/damask-sdn/damask/test/kernel/control"
	"github.com/damask-sdn/damask/test/kernel/image"
	"github.com/damask-sdn/damask/test/kernel/vm"
)

// Exit codes that are not the command's, as timeout(1) and chroot(1) have them.
const (
	exitUsage = 2
	exitLimit = 124
	exitDied  = 125
)

func main() {
	// qemu is to die with this program, and the kernel means by that the thread that
	// started it.
	runtime.LockOSThread()
	config := vm.Config{}
	cache := flag.String("cache", ".cache/kernel", "the directory that keeps the kernel")
	flag.StringVar(&config.Accelerator, "accelerator", "auto", "kvm, tcg (software), or auto: kvm if it works")
	flag.IntVar(&config.CPUs, "cpus", runtime.NumCPU(), "processors")
	flag.IntVar(&config.Memory, "memory", 2048, "memory in MiB; what is not used costs nothing")
	flag.DurationVar(&config.Limit, "limit", 15*time.Minute, "ends a machine that hangs")
	env := flag.String("env", "", "names of variables to hand on, separated by commas")
	near := flag.String("near", "", "programs and files that are used often, separated by commas: the machine gets copies, each sparing it 10 ms when it is opened")
	flag.Parse()
	if flag.NArg() == 0 || config.Accelerator != "auto" && config.Accelerator != vm.KVM && config.Accelerator != vm.TCG {
		fmt.Fprintln(os.Stderr, "usage: kernel [flags] COMMAND [ARGUMENT...]")
		flag.PrintDefaults()
		os.Exit(exitUsage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := run(ctx, config, *cache, list(*near), environment(*env), flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernel:", err)
	}
	os.Exit(code)
}

// environment is what the command gets: a plain one, and the named variables of
// ours.
func environment(names string) []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"}
	for _, name := range list(names) {
		if value, set := os.LookupEnv(name); set {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// list reads what is separated by commas.
func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}

func run(ctx context.Context, config vm.Config, cache string, near, env, args []string) (int, error) {
	cache, err := filepath.Abs(cache)
	if err != nil {
		return exitDied, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return exitDied, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return exitDied, err
	}
	kernel, err := image.Find(ctx, cache, say)
	if err != nil {
		return exitDied, err
	}
	scratch, err := os.MkdirTemp("", "damask-kernel")
	if err != nil {
		return exitDied, err
	}
	defer os.RemoveAll(scratch)
	config.Boot = kernel.Boot
	config.Initramfs, config.Console = filepath.Join(scratch, "initramfs"), filepath.Join(scratch, "console")
	if err := buildGuest(ctx, kernel, near, scratch, config.Initramfs); err != nil {
		return exitDied, err
	}
	// Labs of the host are none of the machine's.
	job := control.Job{Hide: []string{"/var/lib/damask-lab"}, Dir: dir, Env: env, Args: args}
	if config.Accelerator == "auto" {
		if config.Accelerator, err = vm.Accelerator(ctx, config, job, cache); err != nil {
			return exitDied, err
		}
	}
	result, err := vm.Run(ctx, config, job, os.Stdout)
	if err != nil {
		showLog(config.Console)
		if errors.Is(err, vm.ErrLimit) {
			return exitLimit, err
		}
		return exitDied, err
	}
	say(fmt.Sprintf("linux %s by %s: started after %.1f s, off after %.1f s (%.1f s of processor time), %d of %d MiB were free",
		kernel.Version, config.Accelerator, result.Boot.Seconds(), result.Total.Seconds(), result.Processor.Seconds(), result.MemoryFree>>10, config.Memory))
	return result.Code, nil
}

// buildGuest builds the machine's first program and the archive that it boots from.
func buildGuest(ctx context.Context, kernel *image.Kernel, near []string, dir, to string) error {
	program := filepath.Join(dir, "guest")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "github.com/damask-sdn/damask/test/kernel/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // there is no C library where it runs
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest's program: %w\n%s", err, out)
	}
	return image.Initramfs(ctx, kernel, program, near, to)
}

// say tells the person on standard error; standard output is the command's.
func say(words string) { fmt.Fprintln(os.Stderr, "kernel:", words) }

// showLog prints the end of the machine's log.
func showLog(path string) {
	const lines = 150
	text, err := os.ReadFile(path)
	if err != nil {
		return // qemu did not start; the error says why
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	fmt.Fprintf(os.Stderr, "the end of the virtual machine's log:\n%s\n", strings.Join(all[max(0, len(all)-lines):], "\n"))
}
