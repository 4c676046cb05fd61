package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// result is what one check saw.
type result struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	// Server and Source are what the answering server said: its name, and the
	// address that it saw us come from. Empty for icmp; the status code for http.
	Server string `json:"server,omitempty"`
	Source string `json:"source,omitempty"`
	Error  string `json:"error,omitempty"`
}

func check(in io.Reader, out io.Writer) error {
	var lines []string
	for scanner := bufio.NewScanner(in); scanner.Scan(); {
		if line := strings.TrimSpace(scanner.Text()); line != "" {
			lines = append(lines, line)
		}
	}
	results := make([]result, len(lines))
	var wg sync.WaitGroup
	for i, line := range lines {
		wg.Go(func() { results[i] = one(i, line) })
	}
	wg.Wait()
	return json.NewEncoder(out).Encode(results)
}

func one(id int, line string) result {
	r := result{Check: line}
	fields := strings.Fields(line)
	if len(fields) != 3 {
		r.Error = "want: PROTOCOL ADDRESS SIZE"
		return r
	}
	size, err := strconv.Atoi(fields[2])
	if err == nil {
		switch fields[0] {
		case "tcp":
			r.Server, r.Source, err = dialTCP(fields[1], "", size)
		case "connect":
			proxy, target, _ := strings.Cut(fields[1], "/")
			r.Server, r.Source, err = dialTCP(proxy, target, size)
		case "udp":
			r.Server, r.Source, err = askUDP(fields[1], size)
		case "http":
			r.Server, err = fetch(fields[1])
		case "icmp":
			err = echo(id, fields[1], size)
		default:
			err = fmt.Errorf("unknown protocol %q", fields[0])
		}
	}
	r.OK = err == nil
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// dialTCP connects, sends size bytes and wants them back; if there is a target, addr is the
// proxy for HTTP that leads to it.
func dialTCP(addr, target string, size int) (server, source string, err error) {
	conn, err := net.DialTimeout("tcp4", addr, answerWithin())
	if err != nil {
		return "", "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(4 * answerWithin()))
	r := bufio.NewReader(conn)
	if target != "" {
		if err := throughProxy(conn, r, target); err != nil {
			return "", "", err
		}
	}
	payload := bytes.Repeat([]byte("d"), size)
	go conn.Write(payload)
	server, source, err = greeting(r)
	if err != nil {
		return "", "", err
	}
	back := make([]byte, size)
	_, err = io.ReadFull(r, back)
	return server, source, err
}

// askUDP sends a packet of size bytes that must not be fragmented, until it is
// answered.
func askUDP(addr string, size int) (server, source string, err error) {
	conn, err := net.Dial("udp4", addr)
	if err != nil {
		return "", "", err
	}
	defer conn.Close()
	if err := forbidFragments(conn.(*net.UDPConn)); err != nil {
		return "", "", err
	}
	packet, buf, n := bytes.Repeat([]byte("d"), size), make([]byte, 65536), 0
	err = repeatedly(conn, func() error {
		_, err := conn.Write(packet)
		return err
	}, func() error {
		n, err = conn.Read(buf)
		return err
	})
	if err != nil {
		return "", "", err
	}
	return greeting(bufio.NewReader(bytes.NewReader(buf[:n])))
}

func greeting(r *bufio.Reader) (server, source string, err error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", "", err
	}
	server, source, ok := strings.Cut(strings.TrimSpace(line), " ")
	if !ok {
		return "", "", fmt.Errorf("odd answer %q", line)
	}
	return server, source, nil
}

// echo sends one ICMP echo with size bytes of data and Don't Fragment set.
func echo(id int, addr string, size int) error {
	conn, err := icmp.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return err
	}
	defer conn.Close()
	raw, err := conn.IPv4PacketConn().PacketConn.(*net.IPConn).SyscallConn()
	if err == nil {
		err = setDontFragment(raw)
	}
	if err != nil {
		return err
	}
	request := icmp.Echo{ID: (os.Getpid() + id) & 0xffff, Seq: id & 0xffff, Data: bytes.Repeat([]byte("d"), size)}
	wire, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &request}).Marshal(nil)
	if err != nil {
		return err
	}
	return repeatedly(conn, func() error {
		_, err := conn.WriteTo(wire, &net.IPAddr{IP: net.ParseIP(addr)})
		return err
	}, func() error { return awaitEcho(conn, request) })
}

// repeatedly sends until an answer comes or it is time to give up.
func repeatedly(conn interface{ SetReadDeadline(time.Time) error }, send, receive func() error) error {
	for until := time.Now().Add(answerWithin()); ; {
		if err := send(); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(repeatAfter)); err != nil {
			return err
		}
		err := receive()
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(until) {
			return err
		}
	}
}

// awaitEcho reads until the reply to a request comes.
func awaitEcho(conn *icmp.PacketConn, request icmp.Echo) error {
	buf := make([]byte, 65536)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		m, err := icmp.ParseMessage(1, buf[:n]) // 1 is ICMP's protocol number (RFC 792)
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
			continue
		}
		if got, ok := m.Body.(*icmp.Echo); ok && got.ID == request.ID && got.Seq == request.Seq && len(got.Data) == len(request.Data) {
			return nil
		}
	}
}

func forbidFragments(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return setDontFragment(raw)
}

func setDontFragment(raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER, syscall.IP_PMTUDISC_DO)
	})
	return errors.Join(err, failed)
}
