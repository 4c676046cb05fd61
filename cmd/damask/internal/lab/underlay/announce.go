package underlay

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
)

// Announce tells everybody on the underlay whose address addr is, as network
// scripts do when an interface comes up: a gratuitous ARP reply. It is sent from
// the device in the network namespace at the path.
//
// A userspace switch drops the first tunnel packet to a neighbour that it does not
// know, where a kernel would keep it until the neighbour has answered; it learns
// from announcements.
func Announce(path, device string, addr netip.Addr) error {
	err := enter.Do(enter.Namespaces{Net: path}, func() error {
		link, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		to := &unix.SockaddrLinklayer{Ifindex: link.Index, Halen: 6}
		return unix.Sendto(fd, announcement(link.HardwareAddr, addr), 0, to)
	})
	if err != nil {
		return fmt.Errorf("announce %s: %w", addr, err)
	}
	return nil
}

// announcement is a broadcast ARP reply (RFC 826, RFC 5227 section 3) in which
// sender and target are the same.
func announcement(mac net.HardwareAddr, addr netip.Addr) []byte {
	const ethernet, ipv4, reply = 1, 0x0800, 2
	ip := addr.As4()
	frame := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	frame = append(frame, mac...)
	frame = binary.BigEndian.AppendUint16(frame, unix.ETH_P_ARP)
	frame = binary.BigEndian.AppendUint16(frame, ethernet)
	frame = binary.BigEndian.AppendUint16(frame, ipv4)
	frame = append(frame, 6, 4)
	frame = binary.BigEndian.AppendUint16(frame, reply)
	for range 2 {
		frame = append(append(frame, mac...), ip[:]...)
	}
	return frame
}
