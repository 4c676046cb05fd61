package egresspath

import (
	"encoding/binary"
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
	mu   sync.Mutex
	from map[string]int
}

// watch sees packets before anything of the host does.
func watch(t *testing.T, host *netnstest.Namespace) *witness {
	t.Helper()
	w := &witness{from: map[string]int{}}
	var socket int
	var err error
	host.Do(t, func() {
		socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_IP))))
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000})
	ended, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		buffer := make([]byte, 2048)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n, from, err := unix.Recvfrom(socket, buffer, 0)
			ll, ok := from.(*unix.SockaddrLinklayer)
			if err != nil || !ok || n < 20 || ll.Pkttype != unix.PACKET_HOST || isRedirect(buffer[:n]) {
				continue
			}
			w.mu.Lock()
			w.from[netip.AddrFrom4([4]byte(buffer[12:16])).String()]++
			w.mu.Unlock()
		}
	}()
	t.Cleanup(func() { close(stop); <-ended; _ = unix.Close(socket) })
	return w
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
