package kubetest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
)

// ReceivedAs is Received of those who ask for the API server by a name (KubeconfigAs). The
// name is all that a client of TLS says in the open, so it tells clients apart who come from
// the same address.
func (g *Gate) ReceivedAs(serverName string) int64 { return g.named(serverName).Load() }

func (g *Gate) named(serverName string) *atomic.Int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.byName[serverName] == nil {
		g.byName[serverName] = &atomic.Int64{}
	}
	return g.byName[serverName]
}

// errHeard ends the handshake of serverName: the real one is the API server's.
var errHeard = errors.New("the name is known")

// serverName listens to how a client greets a server of TLS. It answers the name that it asks
// for, empty if it says none, and everything that it has said until now.
func serverName(client net.Conn) (name string, said []byte) {
	var heard bytes.Buffer
	_ = tls.Server(listener{client, io.TeeReader(client, &heard)}, &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			name = hello.ServerName
			return nil, errHeard
		},
	}).Handshake()
	return name, heard.Bytes()
}

// listener is a connection to which nothing is said.
type listener struct {
	net.Conn
	from io.Reader
}

func (l listener) Read(p []byte) (int, error)  { return l.from.Read(p) }
func (l listener) Write(p []byte) (int, error) { return len(p), nil }
