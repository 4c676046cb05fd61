package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// join reports every UDP packet that arrives for a multicast group on eth0 until
// standard input closes. The group is left then.
func join(group string) error {
	address, err := net.ResolveUDPAddr("udp4", group)
	if err != nil {
		return err
	}
	link, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	// It listens at the group's address, so it hears nothing else.
	conn, err := net.ListenMulticastUDP("udp4", link, address)
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
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return errors.Join(json.NewEncoder(os.Stdout).Encode(list), conn.Close())
		}
		if err != nil {
			return err
		}
		list = append(list, heard{Source: from.Addr().Unmap().String(), Text: string(buf[:n])})
	}
}

// cast sends one UDP packet with each text to a multicast group. Programs of the same
// machine that have joined the group hear it too.
func cast(group string, texts []string) error {
	conn, err := net.Dial("udp4", group)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, text := range texts {
		if _, err := conn.Write([]byte(text)); err != nil {
			return err
		}
	}
	return nil
}
