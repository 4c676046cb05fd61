package nftables

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/iptables"
)

// TestSwitchOfEnginesCutsNothing goes from iptables to nftables and back, on a node
// that is also the client and the backend: first the new engine's Sync, then the old
// one's Cleanup.
func TestSwitchOfEnginesCutsNothing(t *testing.T) {
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run(program, func(t *testing.T) {
			proctest.Need(t, "ip", program)
			ns := netnstest.New(t, "node")
			ns.Run(t, "ip", "address", "add", "10.128.0.1/14", "dev", "lo")
			ns.Run(t, "ip", "route", "add", "172.30.0.0/16", "dev", "lo", "src", "10.128.0.1")
			state := manyServices(3, 1, netip.MustParseAddrPort("10.128.0.1:8080"))
			ns.Do(t, func() {
				serveEcho(t, "10.128.0.1:8080")
				old, err := iptables.New(clusterNode, program)
				if err != nil {
					t.Fatal(err)
				}
				ours := newEngine(t, clusterNode)
				if _, err := old.Sync(t.Context(), state); err != nil {
					t.Fatal(err)
				}
				conn := dialFirst(t)
				echo(t, conn)
				for _, way := range []struct{ from, to proxy.Engine }{{old, ours}, {ours, old}} {
					if _, err := way.to.Sync(t.Context(), state); err != nil {
						t.Fatal(err)
					}
					echo(t, dialFirst(t))
					if err := way.from.Cleanup(t.Context()); err != nil {
						t.Fatal(err)
					}
					echo(t, conn)
					echo(t, dialFirst(t))
					if changes, err := way.to.Sync(t.Context(), state); err != nil || !changes.None() {
						t.Errorf("the cleanup of %T made %T change %+v, error %v", way.from, way.to, changes, err)
					}
				}
			})
		})
	}
}

// serveEcho answers every byte of every connection with the same byte.
func serveEcho(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				for b := make([]byte, 1); ; {
					if _, err := conn.Read(b); err != nil {
						return
					}
					if _, err := conn.Write(b); err != nil {
						return
					}
				}
			}()
		}
	}()
}

// dialFirst connects to the first service of manyServices.
func dialFirst(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp4", netip.AddrPortFrom(serviceAddr(0), 80).String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func echo(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte{7}); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatalf("no echo: %v", err)
	}
}
