package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// resident answers on ports as serve does, and asks what each line of standard input
// lists, all at once, until standard input closes. So a thousand questions cost no
// process.
//
// A line is "QUIET [PROTOCOL ADDR:PORT]...". How long "no" takes is not said by a time
// for each question, but by QUIET, the time in which no question is answered any more: a
// machine that is busy answers all of them late. The answer is one line of JSON: for
// each question the name of the server that answered, or "".
func resident(name string, ports []string) error {
	for _, port := range ports {
		if err := open(port, name); err != nil {
			return fmt.Errorf("listen on %s: %w", port, err)
		}
	}
	fmt.Println("ready")
	out := json.NewEncoder(os.Stdout)
	for lines := bufio.NewReader(os.Stdin); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return nil // Standard input is closed.
		}
		fields := strings.Fields(line)
		if len(fields)%2 != 1 {
			return fmt.Errorf("%q is not QUIET [PROTOCOL ADDR:PORT]", line)
		}
		quiet, err := time.ParseDuration(fields[0])
		if err != nil {
			return err
		}
		if err := out.Encode(askAll(quiet, fields[1:])); err != nil {
			return err
		}
	}
}

// askAll asks pairs of a protocol and an address.
func askAll(quiet time.Duration, pairs []string) []string {
	names := make([]string, len(pairs)/2)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	silence := time.AfterFunc(quiet, cancel)
	var asking sync.WaitGroup
	for i := range names {
		asking.Go(func() {
			name, err := askUntil(ctx, quiet, pairs[2*i], pairs[2*i+1])
			if err != nil {
				return
			}
			// An answer that comes with the end counts, and does not begin anew.
			if names[i] = name; silence.Stop() {
				silence.Reset(quiet)
			}
		})
	}
	asking.Wait()
	return names
}

// askUntil answers who answered, before ctx is done. A refusal is no answer: on a busy machine
// it may be of an ARP request that nobody has seen yet, or of a connection that was given up.
func askUntil(ctx context.Context, quiet time.Duration, protocol, addr string) (string, error) {
	for {
		name, err := attempt(ctx, quiet, protocol, addr)
		if err == nil {
			return name, nil
		}
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(quiet / 3):
		}
	}
}

// sctpAttempt is how long an association may take. Repeating its first packet would not do
// on a busy machine: the server answers each with another tag, of which connection tracking
// in Linux knows the last and SCTP takes the first, so that nothing of that association passes
// any more. So a new one is begun before.
const sctpAttempt = 2 * time.Second

func attempt(ctx context.Context, quiet time.Duration, protocol, addr string) (string, error) {
	var conn net.Conn
	var err error
	switch protocol {
	case "tcp", "udp":
		conn, err = (&net.Dialer{}).DialContext(ctx, protocol+"4", addr)
	case "sctp":
		conn, err = dialSCTP(addr, min(quiet, sctpAttempt), 2*sctpAttempt)
	default:
		err = fmt.Errorf("unknown protocol %q", protocol)
	}
	if err != nil {
		return "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if tcp, ok := conn.(*net.TCPConn); ok && protocol == "tcp" {
		tcp.SetLinger(0) // Thousands of closed connections that wait are of no use.
	}
	if protocol == "udp" {
		return askDatagram(ctx, quiet, conn)
	}
	name, _, err := greeting(bufio.NewReader(conn))
	return name, err
}

// askDatagram repeats what may be lost to a full queue.
func askDatagram(ctx context.Context, quiet time.Duration, conn net.Conn) (string, error) {
	for buf := make([]byte, 512); ; {
		if _, err := conn.Write([]byte("?")); err != nil {
			return "", err
		}
		conn.SetReadDeadline(time.Now().Add(quiet / 3))
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		n, err := conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			continue
		}
		name, _, _ := strings.Cut(string(buf[:n]), " ")
		return name, err
	}
}
