package servicepath

import (
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dialFrom opens a TCP connection from a port that others of the pod may have too.
func (p *pod) dialFrom(t *testing.T, local uint16, address string, limit time.Duration) (conn net.Conn, err error) {
	t.Helper()
	shared := func(_, _ string, raw syscall.RawConn) error {
		var failed error
		if err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }); err != nil {
			return err
		}
		return failed
	}
	d := net.Dialer{Timeout: limit, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.ip, local)), Control: shared}
	p.ns.Do(t, func() { conn, err = d.Dial("tcp4", address) })
	return conn, err
}

// answers says whether a connection still brings back what is sent.
func answers(conn net.Conn) bool {
	if err := conn.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return false
	}
	buffer := make([]byte, 5)
	_, err := conn.Write([]byte("hello"))
	if err == nil {
		_, err = io.ReadFull(conn, buffer)
	}
	return err == nil && string(buffer) == "hello"
}

// TestABackendSeesOnePortOfAPodOnce holds what operators are told of a pod that asks a backend
// by a service and directly, from one port at a time: the service's address is no more
// when the backend sees it, so both are one connection to it. Policies have no part in it.
func TestABackendSeesOnePortOfAPodOnce(t *testing.T) {
	nodes := newClusterIn(t, "nftables", networkPolicy)
	client, backend := nodes[0].addPod(t, "shop", "client", 5), nodes[0].addPod(t, "shop", "backend", 6)
	backend.echo(t)
	w := newWorld(nodes, client, backend)
	w.tell(t)
	service, direct := "172.30.1.1:80", backend.at(echoPort).String()
	addService(t, nodes, "shop", "local", "172.30.1.1", 80, backend.at(echoPort))
	open := func(port uint16, address string, limit time.Duration) net.Conn {
		conn, err := client.dialFrom(t, port, address, limit)
		if err != nil {
			return nil
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	first, other := open(40000, service, answerLimit), open(40001, direct, answerLimit)
	if first == nil || other == nil || !answers(first) || !answers(other) {
		t.Fatal("two ports are not two connections")
	}
	if open(40000, direct, silence) != nil {
		t.Error("a second connection of the port is made")
	}
	if !answers(first) {
		t.Error("the service's connection is disturbed by one that is not made")
	}
	// The other way around the first is what goes: the backend takes the request to begin
	// for one of the connection that it has, and the client resets what it is told of.
	second := open(40001, service, 4*answerLimit)
	if second == nil || !answers(second) {
		t.Error("the service does not answer from a port that has a connection to its backend")
	}
	if answers(other) {
		t.Error("both go on")
	}
}
