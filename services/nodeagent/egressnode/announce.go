package egressnode

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// repeats say when after an address came it is announced again: a neighbour ignores
// what tells it otherwise within a second, and the node that had the address may
// have answered last.
var repeats = []time.Duration{0, 250 * time.Millisecond, 1200 * time.Millisecond, 3 * time.Second}

// announcement is an address and when to announce it next.
type announcement struct {
	ip    netip.Addr
	came  time.Time
	times int // already announced
}

func (a announcement) next() time.Time { return a.came.Add(repeats[a.times]) }

// announce tells Run of addresses that came. The first time is at once, here. The caller
// has the lock.
func (h *Holder) announce(came []netip.Addr) {
	if len(came) == 0 {
		return
	}
	h.due = slices.DeleteFunc(h.due, func(a announcement) bool { return slices.Contains(came, a.ip) })
	for _, ip := range came {
		h.due = append(h.due, announcement{ip: ip, came: time.Now()})
	}
	h.announceDue(time.Now())
	select {
	case h.fresh <- struct{}{}:
	default:
	}
}

// announceDue announces what is due, and answers when something is again; zero: never.
// What is not wanted any more is not announced. The caller has the lock.
func (h *Holder) announceDue(now time.Time) (next time.Time) {
	var ips []netip.Addr
	for i, a := range h.due {
		if !a.next().After(now) {
			ips = append(ips, a.ip)
			h.due[i].times++
		}
	}
	h.due = slices.DeleteFunc(h.due, func(a announcement) bool {
		return a.times == len(repeats) || !slices.Contains(h.wanted, a.ip)
	})
	ips = slices.DeleteFunc(ips, func(ip netip.Addr) bool { return !slices.Contains(h.wanted, ip) })
	if err := h.send(ips); err != nil {
		h.log.Warn("egress IPs not announced, neighbours ask for themselves", "addresses", ips, "error", err)
	}
	for _, a := range h.due {
		if at := a.next(); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// send broadcasts a gratuitous ARP request and a reply (RFC 5944, 4.6) for each address.
func (h *Holder) send(ips []netip.Addr) error {
	if len(ips) == 0 {
		return nil
	}
	socket, err := h.socket()
	if err != nil {
		return err
	}
	defer socket.Close()
	at, err := h.look(socket)
	if err != nil {
		return err
	}
	packets, err := h.packetSocket()
	if err != nil {
		return err
	}
	defer unix.Close(packets) //nolint:errcheck // only written to
	return broadcast(packets, at.link.Attrs(), ips)
}

func broadcast(packets int, device *netlink.LinkAttrs, ips []netip.Addr) error {
	if len(device.HardwareAddr) != 6 {
		return fmt.Errorf("%s has no Ethernet address", device.Name)
	}
	to := &unix.SockaddrLinklayer{Protocol: swapped(unix.ETH_P_ARP), Ifindex: device.Index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	for _, ip := range ips {
		for operation := byte(1); operation <= 2; operation++ {
			if err := unix.Sendto(packets, frame(operation, device.HardwareAddr, ip), 0, to); err != nil {
				return fmt.Errorf("send ARP of %s on %s: %w", ip, device.Name, err)
			}
		}
	}
	return nil
}

// frame is an Ethernet frame with an ARP message (RFC 826) in which an address speaks of
// itself.
func frame(operation byte, mac net.HardwareAddr, ip netip.Addr) []byte {
	all := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	b := slices.Concat(all, mac, []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, operation}, mac, ip.AsSlice(), all, ip.AsSlice())
	return b
}

// packetSocket opens a packet socket in the node's namespace, on a thread of its own.
func (h *Holder) packetSocket() (int, error) {
	type opened struct {
		socket int
		err    error
	}
	done := make(chan opened, 1)
	go func() {
		// Never unlocked: the thread, which is elsewhere now, ends with the goroutine.
		runtime.LockOSThread()
		if err := unix.Setns(int(h.node.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- opened{err: fmt.Errorf("enter the node's network namespace: %w", err)}
			return
		}
		// Protocol 0: it receives nothing.
		socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			err = fmt.Errorf("open packet socket: %w", err)
		}
		done <- opened{socket, err}
	}()
	o := <-done
	return o.socket, o.err
}

// swapped is a number in network byte order, as a socket address has it.
func swapped(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}
