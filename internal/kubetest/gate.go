package kubetest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

// Gate is a way to the API server which a test can shut for whoever goes through it, while
// the cluster goes on for all others. It counts what passes.
type Gate struct {
	server   string
	port     *port
	received atomic.Int64
	refused  atomic.Int64

	mu       sync.Mutex
	byName   map[string]*atomic.Int64 // see ReceivedAs
	shut     bool
	listener net.Listener // nil: whoever connects is refused
	conns    map[net.Conn]bool
	all      sync.WaitGroup
}

// NewGate opens a gate, which is there until the test ends.
func (c *Cluster) NewGate(t testing.TB) *Gate {
	t.Helper()
	g := &Gate{server: c.port.address(), port: reserve(t), byName: map[string]*atomic.Int64{}, conns: map[net.Conn]bool{}}
	t.Cleanup(func() {
		g.Leave()
		g.all.Wait()
	})
	g.Open(t)
	return g
}

// Address is where the gate is, HOST:PORT.
func (g *Gate) Address() string { return g.port.address() }

// Kubeconfig is the path of a file with all that a user needs to connect through the gate.
func (g *Gate) Kubeconfig(t testing.TB, u *User) string {
	t.Helper()
	return g.KubeconfigAs(t, u, "")
}

// KubeconfigAs is Kubeconfig for clients that ask for the API server by a name, one of those
// in its certificate: what they receive is counted apart. See ReceivedAs.
func (g *Gate) KubeconfigAs(t testing.TB, u *User, serverName string) string {
	t.Helper()
	config, err := clientcmd.LoadFromFile(u.kubeconfig)
	if err != nil {
		t.Fatalf("read a kubeconfig: %v", err)
	}
	for _, cluster := range config.Clusters {
		cluster.Server = "https://" + g.port.address()
		cluster.TLSServerName = serverName
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatalf("write a kubeconfig: %v", err)
	}
	return path
}

// Received is how many bytes the API server has sent through the gate, as they are on the
// wire.
func (g *Gate) Received() int64 { return g.received.Load() }

// Refused is how many connections were tried while the gate was shut.
func (g *Gate) Refused() int64 { return g.refused.Load() }

// Shut ends every connection, and every one that is tried until Open.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	for conn := range g.conns {
		_ = conn.Close()
	}
	clear(g.conns)
}

// Leave is Shut for a gate that nobody keeps: whoever connects is refused until Open, as by a
// host where no API server runs.
func (g *Gate) Leave() {
	g.Shut()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.listener != nil {
		_ = g.listener.Close()
		g.listener = nil
	}
}

// Open lets connections through again.
func (g *Gate) Open(t testing.TB) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
	if g.listener != nil {
		return
	}
	var err error
	if g.listener, err = g.port.listen(t.Context()); err != nil {
		t.Fatalf("open a gate: %v", err)
	}
	listener := g.listener
	g.all.Go(func() { g.serve(listener) })
}

func (g *Gate) serve(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			g.all.Go(func() { g.pass(client) })
		}
	}
}

// pass connects a client to the server until one of them, or the gate, ends it.
func (g *Gate) pass(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", g.server)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	if !g.admit(client, server) {
		return
	}
	defer g.leave(client, server)
	name, greeting := serverName(client)
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(server, io.MultiReader(bytes.NewReader(greeting), client))
		_ = server.Close()
	})
	_, _ = io.Copy(client, io.TeeReader(server, io.MultiWriter(counter{&g.received}, counter{g.named(name)})))
	_ = client.Close()
	both.Wait()
}

// admit says whether connections may be made, and remembers them.
func (g *Gate) admit(conns ...net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		g.refused.Add(1)
		return false
	}
	for _, conn := range conns {
		g.conns[conn] = true
	}
	return true
}

func (g *Gate) leave(conns ...net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, conn := range conns {
		delete(g.conns, conn)
	}
}

// counter counts what is written to it.
type counter struct{ bytes *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.bytes.Add(int64(len(p)))
	return len(p), nil
}
