package link_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/netnstest"
)

// tcpPatience bounds a TCP exchange. With transmit offload on, it stalls for good.
const tcpPatience = 5 * time.Second

// listen opens a listener that stays in the namespace.
func listen(t *testing.T, ns *netnstest.Namespace, address string) net.Listener {
	t.Helper()
	var listener net.Listener
	var err error
	ns.Do(t, func() { listener, err = net.Listen("tcp4", address) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// fetch reads all that a server has to say.
func fetch(t *testing.T, from *netnstest.Namespace, address string) (string, error) {
	t.Helper()
	var conn net.Conn
	var err error
	from.Do(t, func() { conn, err = net.DialTimeout("tcp4", address, tcpPatience) })
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(tcpPatience)); err != nil {
		return "", err
	}
	said, err := io.ReadAll(conn)
	return string(said), err
}
