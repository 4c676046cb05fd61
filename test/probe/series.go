package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// asked is one connection of a series.
type asked struct {
	// At is when it was begun, in microseconds of the clock that all probes share.
	At int64 `json:"at"`
	// Took is how long the answer took, in microseconds.
	Took int64 `json:"took"`
	// Source is the address that the server saw; Error is why there is none.
	Source string `json:"source,omitempty"`
	Error  string `json:"error,omitempty"`
}

// seriesWithin bounds one connection of a series. Nothing is repeated within it: the
// next connection comes soon enough.
const seriesWithin = 900 * time.Millisecond

// series asks a `probe serve` at every interval, each time from a new socket and
// without waiting for the answer of the one before, until standard input closes. It
// prints what became of each.
func series(protocol, addr, every string) error {
	interval, err := time.ParseDuration(every)
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	fmt.Println("ready")
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	var mu sync.Mutex
	var wg sync.WaitGroup
	list := []asked{}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			wg.Go(func() {
				a := askOnce(protocol, addr)
				mu.Lock()
				defer mu.Unlock()
				list = append(list, a)
			})
			continue
		case <-stop:
		}
		wg.Wait()
		return json.NewEncoder(os.Stdout).Encode(list)
	}
}

func askOnce(protocol, addr string) asked {
	begin := time.Now()
	a := asked{At: begin.UnixMicro()}
	source, err := seen(protocol, addr, begin.Add(seriesWithin))
	a.Took, a.Source = time.Since(begin).Microseconds(), source
	if err != nil {
		a.Error = reason(err)
	}
	return a
}

// seen answers the address that a server sees.
func seen(protocol, addr string, until time.Time) (string, error) {
	conn, err := (&net.Dialer{Deadline: until}).Dial(protocol+"4", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(until)
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0) // see load
	} else if _, err := conn.Write([]byte("d")); err != nil {
		return "", err
	}
	_, source, err := greeting(bufio.NewReader(conn))
	return source, err
}
