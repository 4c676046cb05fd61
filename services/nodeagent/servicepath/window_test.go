package servicepath

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// Flags of a TCP segment.
const (
	flagPush = 0x08
	flagAck  = 0x10
)

// segment is a TCP segment with a word of data, its checksum included.
func segment(from, to netip.AddrPort, seq, ack uint32, flags byte) []byte {
	b := make([]byte, 20, 24)
	binary.BigEndian.PutUint16(b, from.Port())
	binary.BigEndian.PutUint16(b[2:], to.Port())
	binary.BigEndian.PutUint32(b[4:], seq)
	binary.BigEndian.PutUint32(b[8:], ack)
	b[12], b[13] = 5<<4, flags
	binary.BigEndian.PutUint16(b[14:], 0xffff)
	b = append(b, "boom"...)
	sum := uint32(unix.IPPROTO_TCP) + uint32(len(b))
	for _, part := range [][]byte{from.Addr().AsSlice(), to.Addr().AsSlice(), b} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[16:], ^uint16(sum))
	return b
}

// position is where a connection is in the sequences of its end: the next byte to send,
// and the next one to come.
func position(t testing.TB, conn net.Conn) (send, receive uint32) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		set := func(option, value int) {
			if failed == nil {
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, value)
			}
		}
		get := func(queue int) uint32 {
			set(unix.TCP_REPAIR_QUEUE, queue)
			seq, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
			if failed == nil {
				failed = err
			}
			return uint32(seq)
		}
		set(unix.TCP_REPAIR, unix.TCP_REPAIR_ON)
		receive, send = get(1), get(2) // TCP_RECV_QUEUE, TCP_SEND_QUEUE of linux/tcp.h
		set(unix.TCP_REPAIR, unix.TCP_REPAIR_OFF_NO_WP)
		// Which has taken from it that its port may be listened at again.
		if failed == nil {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		}
	})
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return send, receive
}

// sendRaw sends a segment past the pod's own TCP.
func (p *pod) sendRaw(t testing.TB, from, to netip.AddrPort, seq, ack uint32, flags byte) {
	t.Helper()
	p.ns.Do(t, func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP)
		if err == nil {
			defer unix.Close(fd)
			err = unix.Sendto(fd, segment(from, to, seq, ack, flags), 0, &unix.SockaddrInet4{Addr: to.Addr().As4()})
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}

// resets counts the resets that a pod's TCP has sent.
func (p *pod) resets(t testing.TB) int {
	t.Helper()
	var names, values []string
	for line := range strings.Lines(p.ns.Run(t, "cat", "/proc/net/snmp")) {
		if strings.HasPrefix(line, "Tcp:") {
			names, values = values, strings.Fields(line)
		}
	}
	for i, name := range names {
		if name == "OutRsts" {
			count, err := strconv.Atoi(values[i])
			if err != nil {
				t.Fatal(err)
			}
			return count
		}
	}
	t.Fatal("the kernel counts no resets")
	return 0
}

// dialKept opens a connection from a port that may be used again at once, and answers
// both of its ends.
func (p *pod) dialKept(t *testing.T, local uint16, address string, backend *pod) (client, server net.Conn) {
	t.Helper()
	var listener net.Listener
	var err error
	backend.ns.Do(t, func() { listener, err = net.Listen("tcp4", backend.backend().String()) })
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if client, err = p.dialFrom(t, local, address, answerLimit); err != nil {
		t.Fatalf("%s asks %s: %v", p.ns.Name(), address, err)
	}
	if err := listener.(*net.TCPListener).SetDeadline(time.Now().Add(answerLimit)); err != nil {
		t.Fatal(err)
	}
	if server, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return client, server
}

// comesThrough writes at one end of a connection, and wants it to come out at the other.
func comesThrough(t testing.TB, when string, from, to net.Conn, size int) {
	t.Helper()
	sent, came := bytes.Repeat([]byte("hello"), size/5), make([]byte, size/5*5)
	failed := make(chan error, 1)
	go func() {
		_, err := from.Write(sent)
		failed <- err
	}()
	if err := to.SetReadDeadline(time.Now().Add(2 * answerLimit)); err != nil {
		t.Fatal(err)
	}
	n, err := io.ReadFull(to, came)
	if err != nil || !bytes.Equal(sent, came) {
		t.Errorf("%s: %d bytes came through of %d (%v)", when, n, len(sent), err)
		return
	}
	if err := <-failed; err != nil {
		t.Errorf("%s: %v", when, err)
	}
}

// withEachBackend tries what is asked with a service of a backend on the client's node, and with
// one of a backend on another, with policies and without.
func withEachBackend(t *testing.T, try func(t *testing.T, nodes []*node, client, backend *pod, service netip.AddrPort)) {
	t.Helper()
	for name, mode := range map[string]tenancyv1.IsolationMode{"subnet": tenancyv1.IsolationMode_ISOLATION_MODE_SUBNET, "networkpolicy": networkPolicy} {
		t.Run(name, func(t *testing.T) {
			nodes := newClusterIn(t, "nftables", mode)
			client := nodes[0].addPod(t, "shop", "client", 5)
			local, remote := nodes[0].addPod(t, "shop", "local", 6), nodes[1].addPod(t, "shop", "remote", 6)
			newWorld(nodes, client, local, remote).tell(t)
			for i, backend := range []*pod{local, remote} {
				service := netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 30, 1, byte(1 + i)}), 80)
				addService(t, nodes, "shop", backend.name, service.Addr().String(), 80, backend.backend())
				try(t, nodes, client, backend, service)
			}
		})
	}
}

func TestAnAnswerOutsideOfTheWindowCutsNoConnection(t *testing.T) {
	withEachBackend(t, func(t *testing.T, _ []*node, client, backend *pod, service netip.AddrPort) {
		port := uint16(40000)
		for _, address := range []string{service.String(), backend.backend().String()} {
			near, far := client.dialKept(t, port, address, backend)
			comesThrough(t, "before", near, far, 100)
			comesThrough(t, "before", far, near, 100)
			send, receive := position(t, far)
			before := client.resets(t)
			backend.sendRaw(t, backend.backend(), client.at(port), send+1<<30, receive, flagPush|flagAck)
			// It takes the same way, behind the other.
			when := "after an answer of " + backend.name + " outside of the window of a connection to " + address
			comesThrough(t, when, far, near, 100)
			comesThrough(t, when, near, far, 100)
			if now := client.resets(t); now != before {
				t.Errorf("%s: the client has sent %d resets", when, now-before)
			}
			_, _ = near.Close(), far.Close()
			port += 100
		}
	})
}

// TestAPortIsUsedAgainForTheBackendItself: what the switch remembers of a connection to
// a service that is over keeps no other from being made.
func TestAPortIsUsedAgainForTheBackendItself(t *testing.T) {
	if !userspace() {
		t.Skip("only on the userspace datapath: the kernel gives the answer the service's address")
	}
	nodes := newClusterIn(t, "nftables", networkPolicy)
	client, backend := nodes[0].addPod(t, "shop", "client", 5), nodes[1].addPod(t, "shop", "backend", 6)
	newWorld(nodes, client, backend).tell(t)
	addService(t, nodes, "shop", "web", "172.30.1.1", 80, backend.backend())
	near, far := client.dialKept(t, 40000, "172.30.1.1:80", backend)
	comesThrough(t, "by the service", near, far, 100)
	_, _ = near.Close(), far.Close()
	near, far = client.dialKept(t, 40000, backend.backend().String(), backend)
	comesThrough(t, "directly, the other way", far, near, 100)
	comesThrough(t, "directly", near, far, 100)
}

// TestWhatTheSwitchHasForgottenGoesOn: a switch in userspace forgets all connections when it
// restarts, and meets them in the middle. That is no reason to call a packet invalid.
func TestWhatTheSwitchHasForgottenGoesOn(t *testing.T) {
	if !userspace() {
		t.Skip("only on the userspace datapath: the kernel's module forgets nothing, and services with it")
	}
	withEachBackend(t, func(t *testing.T, nodes []*node, client, backend *pod, service netip.AddrPort) {
		near, far := client.dialKept(t, 40000, service.String(), backend)
		direct, there := client.dialKept(t, 40001, backend.backend().String(), backend)
		for _, ends := range [][2]net.Conn{{near, far}, {far, near}, {direct, there}, {there, direct}} {
			comesThrough(t, "before", ends[0], ends[1], 1<<20)
		}
		for _, n := range nodes {
			n.sw.Appctl(t, "dpctl/flush-conntrack")
		}
		// By a service the client speaks first (docs/pipeline.md says so); directly either may.
		for _, ends := range [][2]net.Conn{{near, far}, {far, near}, {there, direct}, {direct, there}} {
			comesThrough(t, "after the switch has forgotten, with "+backend.name, ends[0], ends[1], 1<<20)
		}
	})
}
