package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// heard is one thing that arrived.
type heard struct {
	Source string `json:"source"`
	Text   string `json:"text"`
}

// hear reports every UDP packet that arrives on a port until standard input
// closes.
func hear(port string) error {
	conn, err := net.ListenPacket("udp4", ":"+port)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	go func() {
		io.Copy(io.Discard, os.Stdin)
		conn.SetReadDeadline(time.Now())
	}()
	list := []heard{}
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return errors.Join(json.NewEncoder(os.Stdout).Encode(list), conn.Close())
		}
		if err != nil {
			return err
		}
		host, _, _ := net.SplitHostPort(from.String())
		list = append(list, heard{Source: host, Text: string(buf[:n])})
	}
}

// hearARP reports the sender of every ARP packet that arrives on eth0 until
// standard input closes.
func hearARP() error {
	link, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	fd, err := packetSocket(syscall.ETH_P_ARP)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	err = syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: swap(syscall.ETH_P_ARP), Ifindex: link.Index})
	if err != nil {
		return err
	}
	// A read wakes up ten times a second to see whether it is time to end.
	tick := syscall.Timeval{Usec: 100_000}
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &tick); err != nil {
		return err
	}
	closed := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(closed)
	}()
	fmt.Println("ready")
	list := []heard{}
	buf := make([]byte, 2048)
	for {
		n, from, err := syscall.Recvfrom(fd, buf, 0)
		if ll, ok := from.(*syscall.SockaddrLinklayer); err == nil && ok && ll.Pkttype != syscall.PACKET_OUTGOING && n >= 42 {
			// The sender's protocol address is at byte 14 of the ARP packet (RFC 826).
			list = append(list, heard{Source: netip.AddrFrom4([4]byte(buf[28:32])).String()})
		}
		select {
		case <-closed:
			return json.NewEncoder(os.Stdout).Encode(list)
		default:
		}
	}
}
