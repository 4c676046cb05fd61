package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
)

// forge sends packets that lie, one for each line of its input:
//
//	udp SOURCE DESTINATION PORT TEXT                     a UDP packet with a source address of one's choice
//	arp SENDER TARGET                                    an ARP request on eth0 that claims an address
//	vxlan NODE VNI MAC SOURCE DESTINATION PORT TEXT      the UDP packet inside VXLAN, sent as ordinary UDP
func forge(in io.Reader) error {
	for scanner := bufio.NewScanner(in); scanner.Scan(); {
		fields := strings.Fields(scanner.Text())
		var err error
		switch {
		case len(fields) == 5 && fields[0] == "udp":
			err = forgeUDP(fields[1], fields[2], fields[3], fields[4])
		case len(fields) == 3 && fields[0] == "arp":
			err = forgeARP(fields[1], fields[2])
		case len(fields) == 8 && fields[0] == "vxlan":
			err = forgeVXLAN(fields[1:])
		default:
			err = errors.New("not understood")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", scanner.Text(), err)
		}
	}
	return nil
}

func forgeUDP(source, destination, port, text string) error {
	packet, dst, err := udpPacket(source, destination, port, text)
	if err != nil {
		return err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return syscall.Sendto(fd, packet, 0, &syscall.SockaddrInet4{Addr: dst.As4()})
}

// udpPacket builds IPv4 and UDP headers around a text. UDP's checksum is left
// out, as RFC 768 allows over IPv4.
func udpPacket(source, destination, port, text string) ([]byte, netip.Addr, error) {
	src, err1 := netip.ParseAddr(source)
	dst, err2 := netip.ParseAddr(destination)
	dport, err3 := strconv.ParseUint(port, 10, 16)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, dst, err
	}
	p := make([]byte, 28, 28+len(text))
	p[0], p[8], p[9] = 0x45, 64, syscall.IPPROTO_UDP
	binary.BigEndian.PutUint16(p[2:], uint16(28+len(text)))
	copy(p[12:], src.AsSlice())
	copy(p[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(p[10:], checksum(p[:20]))
	binary.BigEndian.PutUint16(p[20:], 40000)
	binary.BigEndian.PutUint16(p[22:], uint16(dport))
	binary.BigEndian.PutUint16(p[24:], uint16(8+len(text)))
	return append(p, text...), dst, nil
}

// checksum is the Internet checksum (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func forgeARP(sender, target string) error {
	spa, err1 := netip.ParseAddr(sender)
	tpa, err2 := netip.ParseAddr(target)
	link, err3 := net.InterfaceByName("eth0")
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	frame := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	frame = append(frame, link.HardwareAddr...)
	frame = append(frame, 0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1) // ARP, Ethernet, IPv4, request (RFC 826)
	frame = append(append(frame, link.HardwareAddr...), spa.AsSlice()...)
	frame = append(append(frame, 0, 0, 0, 0, 0, 0), tpa.AsSlice()...)
	fd, err := packetSocket(syscall.ETH_P_ARP)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return syscall.Sendto(fd, frame, 0, &syscall.SockaddrLinklayer{Protocol: swap(syscall.ETH_P_ARP), Ifindex: link.Index, Halen: 6})
}

// forgeVXLAN takes NODE VNI MAC SOURCE DESTINATION PORT TEXT.
func forgeVXLAN(f []string) error {
	vni, err1 := strconv.ParseUint(f[1], 0, 24)
	mac, err2 := net.ParseMAC(f[2])
	inner, _, err3 := udpPacket(f[3], f[4], f[5], f[6])
	conn, err4 := net.Dial("udp4", net.JoinHostPort(f[0], "4789")) // VXLAN's port (RFC 7348)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	defer conn.Close()
	packet := binary.BigEndian.AppendUint32([]byte{0x08, 0, 0, 0}, uint32(vni)<<8)
	packet = append(packet, mac...)
	packet = append(packet, 0x02, 0, 0, 0, 0, 1, 0x08, 0x00) // a local source MAC, IPv4
	_, err := conn.Write(append(packet, inner...))
	return err
}

func packetSocket(protocol uint16) (int, error) {
	return syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, int(swap(protocol)))
}

func swap(v uint16) uint16 { return v<<8 | v>>8 }
