package bridge

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// wire is a socket in front of the database that can be cut and mended.
type wire struct {
	path, target string
	mu           sync.Mutex
	listener     net.Listener
	conns        []net.Conn
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	w := &wire{path: filepath.Join(t.TempDir(), "wire.sock"), target: target}
	w.mend(t)
	t.Cleanup(w.cut)
	return w
}

// mend lets connections through.
func (w *wire) mend(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("unix", w.path)
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.listener = listener
	w.mu.Unlock()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.join(conn)
		}
	}()
}

func (w *wire) join(conn net.Conn) {
	server, err := net.Dial("unix", w.target)
	if err != nil {
		_ = conn.Close()
		return
	}
	w.mu.Lock()
	w.conns = append(w.conns, conn, server)
	w.mu.Unlock()
	pipe := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		_ = to.Close()
		_ = from.Close()
	}
	go pipe(conn, server)
	go pipe(server, conn)
}

// cut ends all connections and lets none through.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.listener.Close()
	for _, conn := range w.conns {
		_ = conn.Close()
	}
	w.conns = nil
}

func TestConnectionComesBackWithTheRowsOfTheDay(t *testing.T) {
	n := newNode(t)
	n.ensure(t, vxlanSpec())
	n.device(t, "veth1")
	n.device(t, "veth2")
	w := newWire(t, n.sw.DBSocket())
	b := run(t, "unix:"+w.path)
	if _, err := b.AddPort(within(t), Port{Name: "veth1"}); err != nil {
		t.Fatal(err)
	}
	w.cut()
	n.sw.Vsctl(t, "del-port", "veth1", "--", "add-port", "br0", "veth2")
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	// The loss may be noticed only by this call; either way it must not pass.
	if _, err := b.AddPort(short, Port{Name: "veth1"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("AddPort without a database: %v", err)
	}
	w.mend(t)
	if _, err := b.AddPort(within(t), Port{Name: "veth1"}); err != nil {
		t.Errorf("AddPort once the database is back: %v", err)
	}
	ports, err := b.Ports(within(t))
	if err != nil || len(ports) != 2 || ports[0].Name != "veth1" || ports[1].Name != "veth2" {
		t.Errorf("Ports: %+v, %v", ports, err)
	}
}

func TestCallsGoOnAcrossLostConnections(t *testing.T) {
	n := newNode(t)
	n.ensure(t, vxlanSpec())
	w := newWire(t, n.sw.DBSocket())
	b := run(t, "unix:"+w.path)
	names := []string{"vetha", "vethb", "vethc", "vethd", "vethe", "vethf"}
	for _, name := range names {
		n.device(t, name)
	}
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() {
			for range 3 {
				if _, err := b.AddPort(within(t), Port{Name: name}); err != nil {
					t.Errorf("AddPort(%s): %v", name, err)
				}
				if err := b.DeletePort(within(t), name); err != nil {
					t.Errorf("DeletePort(%s): %v", name, err)
				}
			}
			if _, err := b.AddPort(within(t), Port{Name: name}); err != nil {
				t.Errorf("AddPort(%s): %v", name, err)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for cutting := true; cutting; {
		// Only connections that stand are cut: libovsdb has a race of its own when one
		// is lost while it connects (WaitGroup.Add beside Wait in its connect).
		current, err := b.connected(within(t))
		if err != nil {
			t.Fatal(err)
		}
		w.cut()
		if err := b.gone(within(t), current); err != nil {
			t.Fatal(err)
		}
		w.mend(t)
		select {
		case <-done:
			cutting = false
		default:
		}
	}
	got := strings.Split(n.sw.Vsctl(t, "list-ports", "br0"), "\n")
	want := append([]string{"tun0"}, append(names, "vxlan0")...)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("ports %q, want %q", got, want)
	}
}

func TestMissingDatabaseIsNamedInTheError(t *testing.T) {
	b := run(t, "unix:/nonexistent/db.sock")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := b.Ports(ctx)
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/db.sock") || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got error %v", err)
	}
}
