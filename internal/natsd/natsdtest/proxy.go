package natsdtest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy stands between clients and a server, and spoils their connections on
// demand, as networks do.
type Proxy struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	mute  bool
	conns map[net.Conn]bool
	gone  bool
}

// NewProxy starts a proxy in front of the server.
func NewProxy(t testing.TB, server *Server) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen for proxy: %v", err)
	}
	p := &Proxy{listener: listener, target: server.server.Addr().String(), conns: make(map[net.Conn]bool)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		p.gone = true
		p.mu.Unlock()
		p.Cut()
		all.Wait()
	})
	return p
}

// URL answers where clients connect.
func (p *Proxy) URL() string { return "nats://" + p.listener.Addr().String() }

// Mute loses all that the server says from now on; what clients say still
// arrives. It lasts until Cut.
func (p *Proxy) Mute() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = true
}

// Cut breaks all connections, and ends Mute: new ones work.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = false
	for conn := range p.conns {
		_ = conn.Close()
	}
}

func (p *Proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	if !p.add(client, server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	both.Go(func() {
		_, _ = io.Copy(&deaf{proxy: p, to: client}, server)
		_ = client.Close()
	})
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, client)
	delete(p.conns, server)
}

func (p *Proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.gone {
			_ = c.Close()
		}
		p.conns[c] = true
	}
	return !p.gone
}

// deaf passes on what the server says unless the proxy is mute. A connection
// that missed something must hear no more: it is of no use until it is cut.
type deaf struct {
	proxy  *Proxy
	to     net.Conn
	missed bool
}

func (d *deaf) Write(data []byte) (int, error) {
	d.proxy.mu.Lock()
	d.missed = d.missed || d.proxy.mute
	missed := d.missed
	d.proxy.mu.Unlock()
	if missed {
		return len(data), nil
	}
	return d.to.Write(data)
}
