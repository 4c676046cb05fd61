package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// quiet ends a span: who wants to know when there were packets must not be told of a
// time without any.
const quiet = 250 * time.Millisecond

// span is a row of packets of one kind that came one after the other from the same
// source and the same machine, without a pause.
type span struct {
	// Source is the IP source, and MAC the machine that sent it.
	Source string `json:"source"`
	MAC    string `json:"mac"`
	// First and Last are when they came, in microseconds.
	First int64 `json:"first"`
	Last  int64 `json:"last"`
	// Packets is how many.
	Packets int `json:"packets"`
}

// testimony is what a witness saw.
type testimony struct {
	// Arrived is by "PROTOCOL PORT", the port that the packets are for; 0 for ICMP,
	// of which only requests count.
	Arrived map[string][]span `json:"arrived"`
	// Announced are ARP packets in which somebody says where his own address is.
	Announced []span `json:"announced"`
}

// witness looks at every packet that comes in on eth0 until standard input closes,
// whether somebody listens for it or not, and prints who sent what.
func witness() error {
	link, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	fd, err := packetSocket(syscall.ETH_P_ALL)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: swap(syscall.ETH_P_ALL), Ifindex: link.Index}); err != nil {
		return err
	}
	const buffer = 32 << 20 // a lost packet would be one whose source nobody checked
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, buffer); err != nil {
		return err
	}
	tick := syscall.Timeval{Usec: 100_000} // to look whether it is time to end
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &tick); err != nil {
		return err
	}
	closed := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(closed)
	}()
	fmt.Println("ready")
	seen := testimony{Arrived: map[string][]span{}, Announced: []span{}}
	for buf := make([]byte, 65536); ; {
		n, from, err := syscall.Recvfrom(fd, buf, 0)
		if ll, ok := from.(*syscall.SockaddrLinklayer); err == nil && ok && ll.Pkttype != syscall.PACKET_OUTGOING {
			seen.note(buf[:n])
			continue
		}
		select {
		case <-closed:
			return json.NewEncoder(os.Stdout).Encode(seen)
		default:
		}
	}
}

// note takes an Ethernet frame down.
func (t *testimony) note(frame []byte) {
	if len(frame) < 14+20 {
		return
	}
	mac, packet, now := net.HardwareAddr(frame[6:12]).String(), frame[14:], time.Now().UnixMicro()
	switch binary.BigEndian.Uint16(frame[12:]) {
	case syscall.ETH_P_ARP:
		if len(packet) >= 28 && [4]byte(packet[14:18]) == [4]byte(packet[24:28]) { // sender and target are the same (RFC 5227)
			t.Announced = extend(t.Announced, span{Source: netip.AddrFrom4([4]byte(packet[14:18])).String(), MAC: mac, First: now})
		}
	case syscall.ETH_P_IP:
		kind, ok := kindOf(packet)
		if ok {
			t.Arrived[kind] = extend(t.Arrived[kind], span{Source: netip.AddrFrom4([4]byte(packet[12:16])).String(), MAC: mac, First: now})
		}
	}
}

// kindOf answers protocol and destination port of an IPv4 packet; only its first
// fragment has one. False for what is no request.
func kindOf(packet []byte) (string, bool) {
	header := int(packet[0]&15) * 4
	if len(packet) < header+8 || binary.BigEndian.Uint16(packet[6:])&0x1fff != 0 {
		return "", false
	}
	port := binary.BigEndian.Uint16(packet[header+2:])
	switch packet[9] {
	case syscall.IPPROTO_TCP:
		return fmt.Sprintf("tcp %d", port), true
	case syscall.IPPROTO_UDP:
		return fmt.Sprintf("udp %d", port), true
	case syscall.IPPROTO_ICMP:
		const echoRequest = 8
		return "icmp 0", packet[header] == echoRequest
	}
	return "", false
}

// extend adds a packet to the last span of its source if it came from the same
// machine soon after; otherwise a new one begins.
func extend(spans []span, s span) []span {
	for i := len(spans) - 1; i >= 0; i-- {
		if spans[i].Source != s.Source {
			continue
		}
		if spans[i].MAC == s.MAC && s.First-spans[i].Last < quiet.Microseconds() {
			spans[i].Last, spans[i].Packets = s.First, spans[i].Packets+1
			return spans
		}
		break
	}
	s.Last, s.Packets = s.First, 1
	return append(spans, s)
}
