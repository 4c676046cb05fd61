// Package egressreach probes other nodes over the overlay and tells egress what it
// sees, and which egress IPs this node has made true.
//
// It owns the node's streams to the replicas of egress and the probes. It promises
// that only an answer of the target itself is a sign of life: no ICMP error is, and no
// answer to somebody else's probe. It promises a report at once when what it
// sees, or what the node holds, changes, and that a replica that is away or slow
// delays no report to another.
//
// It must not decide who is dead, nor what is hosted.
package egressreach

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	echoRequest, echoReply = 8, 0 // RFC 792.
	// icmpFilter is ICMP_FILTER of the kernel's icmp.h: which types a raw socket of
	// level SOL_RAW does not want.
	icmpFilter = 1
	// forgotten is how long after its last probe an address is forgotten.
	forgotten = time.Minute
)

// Prober sends ICMP echo requests and remembers when answers came. Its methods can be
// called from any goroutine.
type Prober struct {
	conn  *net.IPConn
	token [10]byte // In each probe, id first: an answer without it is not to us.

	mu    sync.Mutex
	seen  map[netip.Addr]time.Time // Last answer; zero: none.
	asked map[netip.Addr]time.Time
}

// OpenProber opens a prober in the network namespace that the calling thread is in.
// It needs CAP_NET_RAW. The caller closes it.
func OpenProber() (*Prober, error) {
	p := &Prober{seen: map[netip.Addr]time.Time{}, asked: map[netip.Addr]time.Time{}}
	_, _ = rand.Read(p.token[:]) // It never fails.
	conn, err := net.ListenIP("ip4:icmp", nil)
	if err != nil {
		return nil, fmt.Errorf("open ICMP socket: %w", err)
	}
	p.conn = conn
	raw, err := conn.SyscallConn()
	if err == nil {
		err = p.answersOnly(raw)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("set up ICMP socket: %w", err)
	}
	return p, nil
}

// answersOnly keeps everything but echo replies from the socket: a node that is pinged
// a lot must not lose answers.
func (p *Prober) answersOnly(raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_RAW, icmpFilter, ^(1 << echoReply))
	})
	return errors.Join(err, failed)
}

// Close ends the prober, and Run with it.
func (p *Prober) Close() error { return p.conn.Close() }

// Run takes answers until ctx ends.
func (p *Prober) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = p.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buffer := make([]byte, 256)
	for {
		n, from, err := p.conn.ReadFromIP(buffer)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && errors.Is(err, net.ErrClosed):
			return fmt.Errorf("receive answers to probes: %w", err)
		case err != nil:
			continue // An ICMP error to a probe shows here too.
		}
		if ip, ok := netip.AddrFromSlice(from.IP); ok && p.ours(buffer[:n]) {
			p.answered(ip.Unmap(), time.Now())
		}
	}
}

// ours says whether a message answers a probe of this prober.
func (p *Prober) ours(message []byte) bool {
	return len(message) >= 16 && message[0] == echoReply && message[1] == 0 &&
		[2]byte(message[4:6]) == [2]byte(p.token[:2]) && [8]byte(message[8:16]) == [8]byte(p.token[2:])
}

func (p *Prober) answered(ip netip.Addr, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, asked := p.asked[ip]; asked {
		p.seen[ip] = now
	}
}

// Send sends one probe. That it could not be sent shows in that no answer comes.
func (p *Prober) Send(ip netip.Addr) {
	now := time.Now()
	p.mu.Lock()
	p.asked[ip] = now
	for other, at := range p.asked {
		if now.Sub(at) > forgotten {
			delete(p.asked, other)
			delete(p.seen, other)
		}
	}
	p.mu.Unlock()
	_, _ = p.conn.WriteToIP(p.probe(), &net.IPAddr{IP: ip.AsSlice()})
}

// Answered answers when the last answer came from an address; false: none has.
func (p *Prober) Answered(ip netip.Addr) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, has := p.seen[ip]
	return at, has
}

// probe is an echo request with its checksum (RFC 1071).
func (p *Prober) probe() []byte {
	b := append([]byte{echoRequest, 0, 0, 0, p.token[0], p.token[1], 0, 1}, p.token[2:]...)
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[2:], ^uint16(sum)) //nolint:gosec // 16 bits are left
	return b
}
