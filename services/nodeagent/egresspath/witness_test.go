package egresspath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/internal/netnstest"
)

// witness counts the sources of all IPv4 packets for the host outside.
type witness struct {
	socket int

	mu     sync.Mutex // Held while packets are taken from the socket, so that none is between it and from.
	from   map[string]int
	buffer []byte
}

// watch sees packets before anything of the host does.
func watch(t *testing.T, host *netnstest.Namespace) *witness {
	t.Helper()
	w := &witness{from: map[string]int{}, buffer: make([]byte, 2048)}
	var err error
	host.Do(t, func() {
		w.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_IP))))
	})
	if err != nil {
		t.Fatal(err)
	}
	ended, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(w.socket), Events: unix.POLLIN}}, 50); n > 0 {
				w.mu.Lock()
				w.take()
				w.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-ended; _ = unix.Close(w.socket) })
	return w
}

// take counts the packets that have come. The caller holds the lock.
func (w *witness) take() {
	for {
		n, from, err := unix.Recvfrom(w.socket, w.buffer, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if ok && n >= 20 && ll.Pkttype == unix.PACKET_HOST && !isRedirect(w.buffer[:n]) {
			w.from[netip.AddrFrom4([4]byte(w.buffer[12:16])).String()]++
		}
	}
}

// isRedirect says whether a packet is an ICMP redirect (RFC 792): a node that has given an
// address up tells late comers with its own address where that is now. It is no packet
// of a pod.
func isRedirect(packet []byte) bool {
	return len(packet) > 20 && packet[9] == unix.IPPROTO_ICMP && packet[20] == 5
}

// sources answers who was seen, and forgets it.
func (w *witness) sources() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.take()
	from := w.from
	w.from = map[string]int{}
	return from
}

// only wants that every packet so far came from one of these, and at least one from each.
func (w *witness) only(t *testing.T, want ...string) map[string]int {
	t.Helper()
	from := w.sources()
	got := slices.Sorted(maps.Keys(from))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("outside saw packets from %v, want %q", from, want)
	}
	return from
}

// until waits for a condition that only packets can make true.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// describe is for failures.
func (n *node) describe(t *testing.T) string {
	t.Helper()
	return strings.Join([]string{
		n.sw.Ofctl(t, "dump-flows", "br0", "table=100"), n.ns.Run(t, "iptables-save"), n.ns.Run(t, "nft", "list", "table", "ip", "damask_egress"),
		n.ns.Run(t, "ip", "-4", "address"), fmt.Sprint(n.state.Objects()),
	}, "\n")
}
