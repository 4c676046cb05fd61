package netnstest_test

import (
	"net"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/netnstest"
)

func TestNamespaceIsFreshAndHasLoUp(t *testing.T) {
	ns := netnstest.New(t, "a")
	got := ns.Run(t, "ip", "-brief", "link")
	if lines := strings.Count(got, "\n"); lines != 1 || !strings.Contains(got, "UP") {
		t.Errorf("want only lo, up, got:\n%s", got)
	}
}

func TestDoRunsInsideAndComesBack(t *testing.T) {
	names := func() string {
		list, err := net.Interfaces()
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, i := range list {
			b.WriteString(i.Name + " ")
		}
		return b.String()
	}
	outside := names()
	a, b := netnstest.New(t, "a"), netnstest.New(t, "b")
	a.Connect(t, "inner-a", b, "inner-b")
	a.Do(t, func() {
		if got := names(); !strings.Contains(got, "inner-a") {
			t.Errorf("inside a: got interfaces %s", got)
		}
		b.Do(t, func() {
			if got := names(); !strings.Contains(got, "inner-b") {
				t.Errorf("inside b: got interfaces %s", got)
			}
		})
		if got := names(); !strings.Contains(got, "inner-a") {
			t.Errorf("back inside a: got interfaces %s", got)
		}
	})
	if got := names(); got != outside {
		t.Errorf("after Do: got interfaces %s, want %s", got, outside)
	}
}

func TestTwoConnectedNamespacesPing(t *testing.T) {
	a, b := netnstest.New(t, "a"), netnstest.New(t, "b")
	a.Connect(t, "eth0", b, "eth0")
	a.Run(t, "ip", "address", "add", "10.9.0.1/24", "dev", "eth0")
	b.Run(t, "ip", "address", "add", "10.9.0.2/24", "dev", "eth0")
	a.Run(t, "ip", "link", "set", "eth0", "up")
	b.Run(t, "ip", "link", "set", "eth0", "up")
	a.Run(t, "ping", "-c", "1", "-w", "3", "10.9.0.2")
}

func TestDialConnectsFromTheNamespace(t *testing.T) {
	a := netnstest.New(t, "a")
	var listener net.Listener
	a.Do(t, func() {
		var err error
		if listener, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	})
	defer func() { _ = listener.Close() }()
	address := listener.Addr().String()
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Errorf("%s is reached from outside of the namespace", address)
	}
	conn, err := a.Dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if got := conn.RemoteAddr().String(); got != address {
		t.Errorf("connected to %s, want %s", got, address)
	}
	if conn, err := a.Dial(t.Context(), "tcp", "localhost:1"); err == nil {
		_ = conn.Close()
		t.Error("a name is an address")
	}
}
