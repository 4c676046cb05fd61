package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// serve answers each TCP connection and each UDP packet with a line that names
// the server and the source address that it sees, followed by what it got. It
// prints "ready" when both sockets listen.
func serve(port, name string) error {
	tcp, err := net.Listen("tcp4", ":"+port)
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp4", ":"+port)
	if err != nil {
		return err
	}
	go answerTCP(tcp, name)
	go answerUDP(udp, name)
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, tcp.Close(), udp.Close())
}

func answerTCP(l net.Listener, name string) {
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

func answerUDP(c net.PacketConn, name string) {
	buf := make([]byte, 65536)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		host, _, _ := net.SplitHostPort(from.String())
		c.WriteTo(fmt.Appendf(nil, "%s %s\n%s", name, host, buf[:n]), from)
	}
}
