package vm

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/damask-sdn/damask/test/kernel/control"
)

// How the machine's processor is made.
const (
	// KVM is the hardware's own.
	KVM = "kvm"
	// TCG is qemu's software emulation.
	TCG = "tcg"
)

// bootLimit is what a boot takes at most with hardware that works: it needs a
// second or two, and then comes of age (see guest).
const bootLimit = 20 * time.Second

// Accelerator answers KVM when a machine boots with it, else TCG. That there is a
// /dev/kvm says little: inside a virtual machine it may be there, be opened, and
// never run an instruction. So it is tried, once a boot of this host; cache is the
// directory that remembers.
func Accelerator(ctx context.Context, config Config, job control.Job, cache string) (string, error) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return TCG, nil
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	memory := filepath.Join(cache, "accelerator-"+strings.TrimSpace(string(boot)))
	if text, err := os.ReadFile(memory); err == nil {
		return string(text), nil
	}
	config.Accelerator, config.Limit = KVM, bootLimit
	job.Args = []string{"true"}
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	found := TCG
	if result, err := Run(ctx, config, job, io.Discard); err == nil && result.Code == 0 {
		found = KVM
	}
	return found, os.WriteFile(memory, []byte(found), 0o644)
}
