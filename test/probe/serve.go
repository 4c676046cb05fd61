package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"golang.org/x/net/ipv4"
)

// serve answers each TCP connection and each UDP packet, and each SCTP connection
// where the kernel has SCTP, with a line that names the server and the source address
// that it sees, followed by what it got. It prints "ready" when its sockets listen.
func serve(port, name string) error {
	if err := open(port, name); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// open makes the sockets of a port, which answer until the process ends.
func open(port, name string) error {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp4", ":"+port)
	if err != nil {
		return err
	}
	udp, err := listenUDP(port)
	if err != nil {
		return err
	}
	sctp, err := listenSCTP(uint16(number))
	if err != nil && !errors.Is(err, errNoSCTP) {
		return err
	}
	for _, l := range append(sctp, tcp) {
		go answerStreams(l, name)
	}
	go answerUDP(udp, name)
	return nil
}

func answerStreams(l net.Listener, name string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			fmt.Fprintf(conn, "%s %s\n", name, host)
			io.Copy(conn, conn)
		}()
	}
}

// listenUDP opens a socket that learns to which of the machine's addresses each
// packet was sent. A machine with several addresses must answer from that one;
// left alone the kernel would take the address of the way back.
func listenUDP(port string) (*ipv4.PacketConn, error) {
	conn, err := net.ListenPacket("udp4", ":"+port)
	if err != nil {
		return nil, err
	}
	udp := ipv4.NewPacketConn(conn)
	return udp, udp.SetControlMessage(ipv4.FlagDst, true)
}

func answerUDP(c *ipv4.PacketConn, name string) {
	buf := make([]byte, 65536)
	for {
		n, to, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		host, _, _ := net.SplitHostPort(from.String())
		var answer *ipv4.ControlMessage
		if to != nil {
			answer = &ipv4.ControlMessage{Src: to.Dst}
		}
		c.WriteTo(fmt.Appendf(nil, "%s %s\n%s", name, host, buf[:n]), answer, from)
	}
}
