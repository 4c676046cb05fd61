package kubetest

import (
	"context"
	"io"
	"net"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

// ServeAlsoAt leads whoever connects to the listener to the API server, until the
// test ends: for programs in another network namespace, where the listener is from.
// The certificate of the API server is good for the addresses Advertised and
// ServiceIP. While the API server is away, who connects is cut at once.
func (c *Cluster) ServeAlsoAt(t testing.TB, listener net.Listener) {
	t.Helper()
	ctx := t.Context()
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // It is closed.
			}
			go join(ctx, conn, c.port.address())
		}
	}()
}

// join leads a connection to an address.
func join(ctx context.Context, conn net.Conn, address string) {
	defer func() { _ = conn.Close() }()
	var dialer net.Dialer
	server, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	couple(ctx, conn, server)
}

// couple copies both ways until one side is done, as TLS is in both directions at once.
func couple(ctx context.Context, a, b net.Conn) {
	ctx, done := context.WithCancel(ctx)
	defer done()
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		go func() {
			defer done()
			_, _ = io.Copy(pair[0], pair[1])
		}()
	}
	<-ctx.Done()
}

// Port is where the API server listens, and where "kubernetes" has its endpoint.
func (c *Cluster) Port() int { return c.port.number }

// KubeconfigAt answers the content of a kubeconfig that is this user's, and leads to
// the API server by another URL.
func (u *User) KubeconfigAt(t testing.TB, url string) []byte {
	t.Helper()
	config, err := clientcmd.LoadFromFile(u.kubeconfig)
	if err != nil {
		t.Fatalf("read the kubeconfig: %v", err)
	}
	for _, cluster := range config.Clusters {
		cluster.Server = url
	}
	content, err := clientcmd.Write(*config)
	if err != nil {
		t.Fatalf("write a kubeconfig: %v", err)
	}
	return content
}
