package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// traffic is what flow saw between its start and its end.
type traffic struct {
	UDPSent     int64 `json:"udpSent"`
	UDPReturned int64 `json:"udpReturned"`
	// StreamSent and StreamReturned count numbered records on one TCP
	// connection; StreamError is why it ended early.
	StreamSent     int64  `json:"streamSent"`
	StreamReturned int64  `json:"streamReturned"`
	StreamError    string `json:"streamError,omitempty"`
	// Connected counts new TCP connections that were opened and answered one
	// after another; Refused counts those that were not.
	Connected int64  `json:"connected"`
	Refused   int64  `json:"refused"`
	LastError string `json:"lastError,omitempty"`
	// LongestGap is the longest time between two UDP answers, in microseconds.
	LongestGap int64 `json:"longestGapMicros"`
	// UDPLast and StreamLast are when the last datagram and the last record came
	// back, in microseconds of the clock that all probes share; 0: none did.
	UDPLast    int64 `json:"udpLastMicros"`
	StreamLast int64 `json:"streamLastMicros"`
}

const recordSize = 8

// flow keeps traffic going to a `probe reply` until standard input closes,
// waits for what is still under way, and prints what it saw.
func flow(addr, every string) error {
	interval, err := time.ParseDuration(every)
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	var seen traffic
	var wg sync.WaitGroup
	udp, err := net.Dial("udp4", addr)
	if err != nil {
		return err
	}
	if err := patient(udp.(*net.UDPConn)); err != nil {
		return err
	}
	stream, err := net.DialTimeout("tcp4", addr, answerWithin())
	if err != nil {
		return err
	}
	wg.Go(func() { datagrams(udp, interval, stop, &seen) })
	wg.Go(func() { records(stream, interval, stop, &seen) })
	wg.Go(func() { connections(addr, 5*interval, stop, &seen) })
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	close(stop)
	wg.Wait()
	return errors.Join(json.NewEncoder(os.Stdout).Encode(&seen), udp.Close(), stream.Close())
}

// stream is flow with nothing but the one long-lived connection.
func stream(addr, every string) error {
	interval, err := time.ParseDuration(every)
	if err != nil {
		return err
	}
	conn, err := net.DialTimeout("tcp4", addr, answerWithin())
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	var seen traffic
	var wg sync.WaitGroup
	wg.Go(func() { records(conn, interval, stop, &seen) })
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	close(stop)
	wg.Wait()
	return errors.Join(json.NewEncoder(os.Stdout).Encode(&seen), conn.Close())
}

// datagrams sends a numbered packet every interval and counts what returns.
func datagrams(conn net.Conn, interval time.Duration, stop <-chan struct{}, seen *traffic) {
	var lastBack, longest atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2048)
		for {
			if _, err := conn.Read(buf); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					return
				}
				continue // an ICMP error arrives as a read error; what matters is what returns
			}
			now := time.Now().UnixMicro()
			if last := lastBack.Swap(now); last != 0 && now-last > longest.Load() {
				longest.Store(now - last)
			}
			atomic.AddInt64(&seen.UDPReturned, 1)
		}
	}()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := uint64(0); ; n++ {
		select {
		case <-tick.C:
			if _, err := conn.Write(binary.BigEndian.AppendUint64(nil, n)); err == nil {
				seen.UDPSent++
			}
		case <-stop:
			conn.SetReadDeadline(time.Now().Add(answerWithin()))
			<-done
			seen.LongestGap, seen.UDPLast = longest.Load(), lastBack.Load()
			return
		}
	}
}

// records sends numbered records on one connection and wants them back in order.
func records(conn net.Conn, interval time.Duration, stop <-chan struct{}, seen *traffic) {
	done := make(chan error, 1)
	go func() {
		buf := make([]byte, recordSize)
		for want := uint64(0); ; want++ {
			if _, err := io.ReadFull(conn, buf); err != nil {
				done <- err
				return
			}
			if got := binary.BigEndian.Uint64(buf); got != want {
				done <- fmt.Errorf("record %d came where %d was due", got, want)
				return
			}
			seen.StreamReturned++
			seen.StreamLast = time.Now().UnixMicro()
		}
	}()
	go func() {
		<-stop
		// On a connection that was cut, what is sent fills the buffer, and then waits.
		conn.SetWriteDeadline(time.Now().Add(answerWithin()))
	}()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := uint64(0); ; n++ {
		select {
		case <-tick.C:
			if _, err := conn.Write(binary.BigEndian.AppendUint64(nil, n)); err != nil {
				seen.StreamError = err.Error()
				return
			}
			seen.StreamSent++
		case <-stop:
			conn.(*net.TCPConn).CloseWrite()
			conn.SetReadDeadline(time.Now().Add(4 * answerWithin()))
			if err := <-done; !errors.Is(err, io.EOF) {
				seen.StreamError = err.Error()
			}
			return
		}
	}
}

// connections opens connections, each with one record there and back. It leaves
// pauses: the question is whether any is lost, not how many fit.
func connections(addr string, every time.Duration, stop <-chan struct{}, seen *traffic) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if err := connectOnce(addr); err != nil {
			seen.Refused++
			seen.LastError = err.Error()
			continue
		}
		seen.Connected++
	}
}

func connectOnce(addr string) error {
	conn, err := net.DialTimeout("tcp4", addr, answerWithin())
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(answerWithin()))
	// A reset instead of TIME_WAIT: thousands of connections must not run out
	// of local ports.
	conn.(*net.TCPConn).SetLinger(0)
	if _, err := conn.Write(make([]byte, recordSize)); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, recordSize))
	return err
}

// patient gives a socket a queue for seconds of traffic: what is asked is what the network
// loses, and not whether this program gets the processor in time.
func patient(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
		if errors.Is(failed, unix.EPERM) { // in a container: as much as everybody may have
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<20)
		}
	})
	return errors.Join(err, failed)
}

// reply echoes TCP streams and UDP packets byte for byte.
func reply(port string) error {
	tcp, err := net.Listen("tcp4", ":"+port)
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp4", ":"+port)
	if err != nil {
		return err
	}
	if err := patient(udp.(*net.UDPConn)); err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			udp.WriteTo(buf[:n], from)
		}
	}()
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, tcp.Close(), udp.Close())
}
