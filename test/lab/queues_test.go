package lab

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// The queues in front of a switch in userspace: a packet socket for each port, and the rings
// of its taps. Each has room for a few hundred packets, and overflows when
// ovs-vswitchd does not get the processor for some hundred milliseconds.

// deepenQueues gives all of them room for seconds of traffic, so that what is lost is not lost
// to them.
func (c *cluster) deepenQueues(t *testing.T) {
	t.Helper()
	if !userspace() {
		return
	}
	const ring = "10000" // packets
	c.lab = nil
	for _, n := range c.known().GetNodes() {
		for _, p := range n.GetProcesses() {
			if p.GetName() == "ovs-vswitchd" {
				deepenSockets(t, int(p.GetPid()))
			}
		}
		for _, tap := range taps {
			c.exec(onNode(n.GetName()), "ip", "link", "set", "dev", tap, "txqueuelen", ring)
		}
	}
}

// taps are the devices by which a node's kernel sends to its switch.
var taps = []string{"tun0", "br-phy"}

// deepenSockets gives a process's packet sockets a queue for seconds.
func deepenSockets(t *testing.T, pid int) {
	t.Helper()
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(process)
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	deepened := 0
	for _, f := range files {
		number, err := strconv.Atoi(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.PidfdGetfd(process, number, 0)
		if err != nil {
			continue // closed meanwhile
		}
		if domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil && domain == unix.AF_PACKET {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
				t.Error(err)
			}
			deepened++
		}
		unix.Close(fd)
	}
	if deepened == 0 {
		t.Errorf("process %d has no packet sockets", pid)
	}
}

// droppedBySocket is what `ss` tells of a socket, droppedByTap what `ip` does of a device.
var (
	droppedBySocket = regexp.MustCompile(`skmem:\(.*,d(\d+)\)`)
	droppedByTap    = regexp.MustCompile(`"tx":\{[^}]*"dropped":(\d+)`)
	lostUpcalls     = regexp.MustCompile(`lookups: .* lost:(\d+)`)
)

// queuesOverflown counts the packets for which queues had no room: those in front of each
// userspace switch, or of the kernel's to the one that is asked for new flows.
func (c *cluster) queuesOverflown(t *testing.T) (packets int64) {
	t.Helper()
	count := func(node string, shape *regexp.Regexp, command ...string) {
		for _, found := range shape.FindAllStringSubmatch(c.exec(onNode(node), command...), -1) {
			n, err := strconv.ParseInt(found[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			packets += n
		}
	}
	for _, n := range c.known().GetNodes() {
		if !userspace() {
			count(n.GetName(), lostUpcalls, "ovs-dpctl", "show")
			continue
		}
		count(n.GetName(), droppedBySocket, "ss", "-0", "-m", "-H")
		for _, tap := range taps {
			count(n.GetName(), droppedByTap, "ip", "-s", "-j", "link", "show", "dev", tap)
		}
	}
	return packets
}
