package main

import (
	"bufio"
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
)

// shares is what load saw.
type shares struct {
	// Answers counts connections by "SERVER SOURCE": who answered, and whom it saw.
	Answers map[string]int `json:"answers"`
	// Errors counts connections that were not answered, by reason.
	Errors map[string]int `json:"errors,omitempty"`
	// Slowest is how long the slowest answer took, in microseconds.
	Slowest int64 `json:"slowestMicros"`
}

// abreast is how many connections are open at once when there is no rate.
const abreast = 16

// loadWithin bounds one connection. It is longer than the second after which TCP
// repeats a SYN, so that a lost one is seen as slow and not as an error; and where the
// processor is emulated, than the first ones take, whose code it has not translated yet.
func loadWithin() time.Duration { return answerWithin() * 8 / 3 }

// load asks a `probe serve` at each address count times, as fast as it can, each time
// from a new socket, and prints for each who answered. A client that is to be known is
// alone the first time.
func load(protocol string, addrs []string, count int, known bool) error {
	out := json.NewEncoder(os.Stdout)
	for _, addr := range addrs {
		l, left := newLoader(protocol, addr), count
		if known {
			l.once()
			left--
		}
		l.times(left)
		if err := out.Encode(&l.seen); err != nil {
			return err
		}
	}
	return nil
}

// loadAtRate asks so often a second, until standard input closes, and says "ready"
// first.
func loadAtRate(protocol, addr string, rate int) error {
	l := newLoader(protocol, addr)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	fmt.Println("ready")
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			wg.Go(l.once)
			continue
		case <-stop:
		}
		wg.Wait()
		return json.NewEncoder(os.Stdout).Encode(&l.seen)
	}
}

func newLoader(protocol, addr string) *loader {
	return &loader{protocol: protocol, addr: addr, seen: shares{Answers: map[string]int{}, Errors: map[string]int{}}}
}

type loader struct {
	protocol, addr string

	mu   sync.Mutex
	seen shares
}

// times makes so many connections, some of them at once.
func (l *loader) times(count int) {
	var wg sync.WaitGroup
	turns := make(chan struct{})
	for range min(abreast, count) {
		wg.Go(func() {
			for range turns {
				l.once()
			}
		})
	}
	for range count {
		turns <- struct{}{}
	}
	close(turns)
	wg.Wait()
}

// once makes one connection and notes what became of it.
func (l *loader) once() {
	begin := time.Now()
	server, source, err := l.ask()
	took := time.Since(begin)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.seen.Errors[reason(err)]++
		return
	}
	l.seen.Answers[server+" "+source]++
	l.seen.Slowest = max(l.seen.Slowest, took.Microseconds())
}

// reason is an error without what differs from one connection to the next.
func reason(err error) string {
	var number syscall.Errno
	var timed net.Error
	switch {
	case errors.As(err, &timed) && timed.Timeout():
		return "silence"
	case errors.As(err, &number):
		return number.Error()
	}
	return err.Error()
}

func (l *loader) ask() (server, source string, err error) {
	var conn net.Conn
	if l.protocol == "sctp" {
		conn, err = dialSCTP(l.addr, loadWithin(), rtoInitial)
	} else {
		conn, err = net.DialTimeout(l.protocol+"4", l.addr, loadWithin())
	}
	if err != nil {
		return "", "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(loadWithin()))
	if tcp, ok := conn.(*net.TCPConn); ok {
		// A reset instead of TIME_WAIT: thousands of connections must not run out
		// of local ports. SCTP's is an ABORT.
		tcp.SetLinger(0)
		return greeting(bufio.NewReader(conn))
	}
	buf, n := make([]byte, 256), 0
	err = repeatedly(conn, func() error {
		_, err := conn.Write([]byte("d"))
		return err
	}, func() error {
		n, err = conn.Read(buf)
		return err
	})
	if err != nil {
		return "", "", err
	}
	return greeting(bufio.NewReader(strings.NewReader(string(buf[:n]))))
}

// talk is one UDP conversation: from one socket, a packet every interval, until
// standard input closes. It prints who answered, in order, with how many answers
// each gave in a row, and the packets that nobody answered.
func talk(addr, every string) error {
	interval, err := time.ParseDuration(every)
	if err != nil {
		return err
	}
	conn, err := net.Dial("udp4", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := make(chan struct{})
	fmt.Println("ready")
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	turns := []turn{}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return json.NewEncoder(os.Stdout).Encode(turns)
		case <-tick.C:
		}
		server := exchange(conn, n)
		if last := len(turns) - 1; last >= 0 && turns[last].Server == server {
			turns[last].Packets++
			continue
		}
		turns = append(turns, turn{Server: server, Packets: 1})
	}
}

// turn is a row of packets that one server answered; nobody, if it has no name.
type turn struct {
	Server  string `json:"server"`
	Packets int    `json:"packets"`
}

// exchange sends packet n and answers who answered it; nobody is "".
func exchange(conn net.Conn, n int) string {
	text := strconv.Itoa(n)
	if _, err := conn.Write([]byte(text)); err != nil {
		return ""
	}
	conn.SetReadDeadline(time.Now().Add(repeatAfter))
	buf := make([]byte, 256)
	for {
		size, err := conn.Read(buf)
		if err != nil {
			return ""
		}
		line, echoed, _ := strings.Cut(string(buf[:size]), "\n")
		if server, _, ok := strings.Cut(line, " "); ok && echoed == text {
			return server
		}
	}
}
