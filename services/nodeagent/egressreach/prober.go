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
	// paused is after how long without a probe those before it say nothing any more.
	paused = time.Second
	// manyWaiting is how many probes of an address may wait for their answers. More change
	// nothing: what counts is the first.
	manyWaiting = 64
	// headerLength and answerLength are an ICMP header, and all of a probe: the header,
	// the rest of the token, and when it was sent.
	headerLength, answerLength = 8, 24
)

// Prober sends ICMP echo requests and remembers when answers came. Its methods can be
// called from any goroutine.
type Prober struct {
	conn  *net.IPConn
	raw   syscall.RawConn
	token [10]byte // In each probe, id first: an answer without it is not to us.
	begun time.Time

	mu    sync.Mutex
	peers map[netip.Addr]*peer
}

// peer is an address that is probed.
type peer struct {
	asked   time.Time   // the last probe
	seen    time.Time   // the last answer; zero: none
	waiting []time.Time // when those probes were sent that have no answer, nor any later one
}

// OpenProber opens a prober in the network namespace that the calling thread is in.
// It needs CAP_NET_RAW. The caller closes it.
func OpenProber() (*Prober, error) {
	p := &Prober{begun: time.Now(), peers: map[netip.Addr]*peer{}}
	_, _ = rand.Read(p.token[:]) // It never fails.
	conn, err := net.ListenIP("ip4:icmp", nil)
	if err != nil {
		return nil, fmt.Errorf("open ICMP socket: %w", err)
	}
	p.conn = conn
	p.raw, err = conn.SyscallConn()
	if err == nil {
		err = p.answersOnly(p.raw)
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
		if ip, ok := netip.AddrFromSlice(from.IP); ok {
			p.take(ip.Unmap(), buffer[:n])
		}
	}
}

// drain takes the answers that have come already, also when Run has had no processor for
// a while. Who calls somebody silent has drained before.
func (p *Prober) drain() {
	buffer := make([]byte, 256)
	_ = p.raw.Control(func(fd uintptr) {
		for {
			n, from, err := unix.Recvfrom(int(fd), buffer, unix.MSG_DONTWAIT)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return // there is none, or it is an ICMP error to a probe, which the next call meets
			}
			ip, ok := from.(*unix.SockaddrInet4)
			if !ok || n == 0 {
				continue
			}
			if header := int(buffer[0]&0xf) * 4; header <= n {
				p.take(netip.AddrFrom4(ip.Addr), buffer[header:n])
			}
		}
	})
}

// take notes an answer, if it is one to a probe of this prober.
func (p *Prober) take(from netip.Addr, message []byte) {
	if !p.ours(message) {
		return
	}
	sent := p.begun.Add(time.Duration(binary.BigEndian.Uint64(message[16:answerLength]))) //nolint:gosec // as probe has made it
	p.mu.Lock()
	defer p.mu.Unlock()
	peer := p.peers[from]
	if peer == nil {
		return
	}
	peer.seen = time.Now()
	for len(peer.waiting) > 0 && !peer.waiting[0].After(sent) {
		peer.waiting = peer.waiting[1:]
	}
}

// ours says whether a message answers a probe of this prober.
func (p *Prober) ours(message []byte) bool {
	return len(message) >= answerLength && message[0] == echoReply && message[1] == 0 &&
		[2]byte(message[4:6]) == [2]byte(p.token[:2]) && [8]byte(message[headerLength:16]) == [8]byte(p.token[2:])
}

// Send sends one probe. That it could not be sent shows in that no answer comes.
func (p *Prober) Send(ip netip.Addr) {
	now := time.Now()
	p.mu.Lock()
	if p.peers[ip] == nil {
		p.peers[ip] = &peer{}
	}
	sent := p.peers[ip]
	if now.Sub(sent.asked) > paused {
		sent.waiting = nil
	}
	if sent.asked = now; len(sent.waiting) < manyWaiting {
		sent.waiting = append(sent.waiting, now)
	}
	for other, peer := range p.peers {
		if now.Sub(peer.asked) > forgotten {
			delete(p.peers, other)
		}
	}
	p.mu.Unlock()
	_, _ = p.conn.WriteToIP(p.probe(now), &net.IPAddr{IP: ip.AsSlice()})
}

// Answered answers when the last answer came from an address; false: none has.
func (p *Prober) Answered(ip netip.Addr) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	peer := p.peers[ip]
	if peer == nil {
		return time.Time{}, false
	}
	return peer.seen, !peer.seen.IsZero()
}

// Waiting answers since when an address has answered no probe: when the first of those was
// sent. A prober that had no processor for a while has sent none, and calls nobody silent
// for that.
func (p *Prober) Waiting(ip netip.Addr) (since time.Time, waiting bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	peer := p.peers[ip]
	if peer == nil || len(peer.waiting) == 0 {
		return time.Time{}, false
	}
	return peer.waiting[0], true
}

// silent says whether an address has not answered for so long, and else when it would be.
func (p *Prober) silent(ip netip.Addr, patience time.Duration) (silent bool, next time.Time) {
	since, waiting := p.Waiting(ip)
	if waiting && time.Since(since) >= patience {
		p.drain()
		since, waiting = p.Waiting(ip)
	}
	if !waiting {
		return false, time.Time{}
	}
	return time.Since(since) >= patience, since.Add(patience)
}

// probe is an echo request with its checksum (RFC 1071).
func (p *Prober) probe(now time.Time) []byte {
	b := append([]byte{echoRequest, 0, 0, 0, p.token[0], p.token[1], 0, 1}, p.token[2:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(now.Sub(p.begun))) //nolint:gosec // it is later
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
