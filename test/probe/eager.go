package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// eagerEvery is the pause between two packets of a pod that has just been born: it
	// tries long before it can.
	eagerEvery = 500 * time.Microsecond
	// eagerFor is how long it goes on once it can send. What comes later is no news.
	eagerFor = 2 * time.Second
)

// eager looks for network namespaces that come into a directory, and from each of them
// sends UDP packets, from the very beginning and whether they can be sent or not, until
// they could be for a while. It ends when standard input closes. It prints from how many it sent anything.
func eager(dir, to string) error {
	dst, err := netip.ParseAddrPort(to)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	look := func(found func(path string)) error {
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			if !known[e.Name()] {
				known[e.Name()] = true
				found(filepath.Join(dir, e.Name()))
			}
		}
		return err
	}
	if err := look(func(string) {}); err != nil {
		return err
	}
	stop := make(chan struct{})
	fmt.Println("ready")
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	var wg sync.WaitGroup
	var mu sync.Mutex
	sent := 0
	for {
		err := look(func(path string) {
			wg.Go(func() {
				if shout(path, dst, stop) > 0 {
					mu.Lock()
					defer mu.Unlock()
					sent++
				}
			})
		})
		select {
		case <-stop:
			wg.Wait()
			_, out := fmt.Println(sent)
			return errors.Join(err, out)
		case <-time.After(eagerEvery):
		}
	}
}

// shout sends from a namespace, and answers how many packets could be sent.
func shout(path string, to netip.AddrPort, stop <-chan struct{}) (sent int) {
	runtime.LockOSThread() // and never unlocked: the thread ends in the namespace
	fd := -1
	for begun := time.Now(); sent == 0 || time.Since(begun) < eagerFor; {
		select {
		case <-stop:
			return sent
		case <-time.After(eagerEvery):
		}
		if fd < 0 {
			fd = socketIn(path)
			continue
		}
		if syscall.Sendto(fd, []byte("e"), 0, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}) != nil {
			continue
		}
		if sent++; sent == 1 {
			begun = time.Now()
		}
	}
	return sent
}

// socketIn answers a socket in a namespace, or -1 when it is not made yet.
func socketIn(path string) int {
	ns, err := os.Open(path)
	if err != nil {
		return -1
	}
	defer ns.Close()
	if unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET) != nil {
		return -1
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return -1
	}
	return fd
}
