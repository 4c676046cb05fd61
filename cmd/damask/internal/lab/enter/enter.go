// Package enter runs things inside the namespaces of a lab.
//
// It owns the dance with setns: a Go program has many threads and a namespace
// belongs to one of them, so everything here happens on a thread that is locked
// for it and thrown away afterwards. It promises that the caller's own threads
// stay where they were. It must not create processes of its own accord, nor know
// what a lab is.
package enter

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// Namespaces says where to go: paths of namespace files. An empty one means: stay.
type Namespaces struct {
	// Net is a network namespace.
	Net string
	// PID is the namespace in which started processes live. The caller of Do does
	// not move into it: only its children do.
	PID string
	// UTS is where the host name is from.
	UTS string
	// Mount is a mount namespace. It is entered last, so that the others are
	// paths as the caller sees them.
	Mount string
}

// Process returns the namespaces of a process, by its id in the caller's /proc.
func Process(pid int) Namespaces {
	dir := fmt.Sprintf("/proc/%d/ns/", pid)
	return Namespaces{Net: dir + "net", PID: dir + "pid", UTS: dir + "uts", Mount: dir + "mnt"}
}

// InNet returns the namespaces with another network namespace, which is a path in
// the mount namespace of the process pid ("/run/netns/pod1").
func InNet(pid int, path string) Namespaces {
	ns := Process(pid)
	ns.Net = fmt.Sprintf("/proc/%d/root%s", pid, path)
	return ns
}

// Do calls f on a thread that is inside the namespaces, and returns its error.
// Goroutines that f starts are not inside.
func Do(ns Namespaces, f func() error) error {
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime ends the thread with the goroutine, so that no
		// other goroutine can find itself in a foreign namespace.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The process's first thread is what others see as the process: its root in
			// /proc must stay where it is. While it is held, another one is taken.
			defer runtime.UnlockOSThread()
			result <- Do(ns, f)
			return
		}
		result <- doHere(ns, f)
	}()
	return <-result
}

// doHere moves the present thread for good and calls f.
func doHere(ns Namespaces, f func() error) error {
	targets := []struct {
		path string
		kind int
	}{{ns.Net, unix.CLONE_NEWNET}, {ns.PID, unix.CLONE_NEWPID}, {ns.UTS, unix.CLONE_NEWUTS}, {ns.Mount, unix.CLONE_NEWNS}}
	var files []*os.File
	defer func() {
		for _, file := range files {
			file.Close()
		}
	}()
	// All are opened before the first move, because a move changes what paths mean.
	for _, t := range targets {
		if t.path == "" {
			files = append(files, nil)
			continue
		}
		file, err := os.Open(t.path)
		if err != nil {
			return fmt.Errorf("open namespace: %w", err)
		}
		files = append(files, file)
	}
	if ns.Mount != "" {
		// The kernel refuses another mount namespace to threads that share their
		// working directory.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("take a working directory apart: %w", err)
		}
	}
	for i, t := range targets {
		if files[i] == nil {
			continue
		}
		if err := unix.Setns(int(files[i].Fd()), t.kind); err != nil {
			return fmt.Errorf("enter namespace %s: %w", t.path, err)
		}
	}
	return f()
}

// Start starts the command inside the namespaces. The command's program must be a
// path that is valid there. The command must not set Pdeathsig: its parent thread
// ends at once.
func Start(ns Namespaces, cmd *exec.Cmd) error {
	return Do(ns, cmd.Start)
}
