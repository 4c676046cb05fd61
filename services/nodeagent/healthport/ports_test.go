package healthport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/netnstest"
)

// node is a network namespace with ports.
type node struct {
	ns    *netnstest.Namespace
	ports *Ports
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{ns: netnstest.New(t, "node"), ports: New(hclog.NewNullLogger())}
	t.Cleanup(n.ports.Close)
	return n
}

func (n *node) set(t testing.TB, want map[uint16]Health) (err error) {
	t.Helper()
	n.ns.Do(t, func() { err = n.ports.Set(want) })
	return err
}

// dial connects to a port of the node.
func (n *node) dial(t testing.TB, port uint16) (conn net.Conn, err error) {
	t.Helper()
	n.ns.Do(t, func() {
		d := net.Dialer{Timeout: 5 * time.Second}
		conn, err = d.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	})
	return conn, err
}

// client asks by new connections, or all by one.
func (n *node) client(t testing.TB, port uint16, keep bool) *http.Client {
	t.Helper()
	transport := &http.Transport{
		DisableKeepAlives: !keep,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return n.dial(t, port) },
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// answer is what a port said.
type answer struct {
	status                int
	contentType, weight   string
	body                  string
	namespace, name       string
	local                 int
	serviceProxyHealthy   bool
	serviceProxyMentioned bool
}

func ask(t testing.TB, client *http.Client, path string) (answer, error) {
	t.Helper()
	response, err := client.Get("http://node" + path)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	var b struct {
		Service             struct{ Namespace, Name string }
		LocalEndpoints      int
		ServiceProxyHealthy *bool
	}
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatalf("answer %q: %v", text, err)
	}
	a := answer{
		status: response.StatusCode, contentType: response.Header.Get("Content-Type"),
		weight: response.Header.Get("X-Load-Balancing-Endpoint-Weight"), body: string(text),
		namespace: b.Service.Namespace, name: b.Service.Name, local: b.LocalEndpoints,
	}
	if a.serviceProxyMentioned = b.ServiceProxyHealthy != nil; a.serviceProxyMentioned {
		a.serviceProxyHealthy = *b.ServiceProxyHealthy
	}
	return a, nil
}

func TestAPortAnswersAsKubeProxyDoes(t *testing.T) {
	n := newNode(t)
	web := Health{Namespace: "shop", Name: "web", Local: 2}
	if err := n.set(t, map[uint16]Health{32000: web, 32001: {Namespace: "shop", Name: "db"}}); err != nil {
		t.Fatal(err)
	}
	got, err := ask(t, n.client(t, 32000, false), "/")
	if err != nil {
		t.Fatal(err)
	}
	// As kube-proxy 1.33 writes it.
	const text = "{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t},\n\t\"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": true\n}"
	want := answer{
		status: 200, contentType: "application/json", weight: "2", body: text,
		namespace: "shop", name: "web", local: 2, serviceProxyHealthy: true, serviceProxyMentioned: true,
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got, err := ask(t, n.client(t, 32000, false), "/any/path?at=all"); err != nil || got != want {
		t.Errorf("another path: %+v, %v", got, err)
	}
	got, err = ask(t, n.client(t, 32001, false), "/healthz")
	if err != nil || got.status != 503 || got.weight != "0" || got.name != "db" || got.local != 0 || !got.serviceProxyHealthy {
		t.Errorf("without endpoints: %+v, %v", got, err)
	}
	n.ports.SetProxyHealthy(false)
	got, err = ask(t, n.client(t, 32000, false), "/")
	if err != nil || got.status != 503 || got.weight != "2" || got.serviceProxyHealthy || !got.serviceProxyMentioned {
		t.Errorf("while the engine does not work: %+v, %v", got, err)
	}
}

func TestAConnectionOutlivesChangesOfItsPortAndOfOthers(t *testing.T) {
	n := newNode(t)
	client := n.client(t, 32000, true)
	for i, want := range []map[uint16]Health{
		{32000: {Namespace: "shop", Name: "web", Local: 1}},
		{32000: {Namespace: "shop", Name: "web", Local: 3}, 32001: {Namespace: "shop", Name: "db"}},
		{32000: {Namespace: "shop", Name: "other"}},
	} {
		if err := n.set(t, want); err != nil {
			t.Fatal(err)
		}
		if i > 0 { // only the first question may connect
			client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
				return nil, errors.New("the connection was lost")
			}
		}
		got, err := ask(t, client, "/")
		if err != nil || got.name != want[32000].Name || got.local != want[32000].Local {
			t.Errorf("step %d: %+v, %v", i, got, err)
		}
	}
}

func TestAnOccupiedPortDisturbsNoOther(t *testing.T) {
	n := newNode(t)
	var occupied net.Listener
	n.ns.Do(t, func() {
		var err error
		if occupied, err = net.Listen("tcp4", ":32001"); err != nil {
			t.Fatal(err)
		}
	})
	want := map[uint16]Health{
		32000: {Namespace: "shop", Name: "a", Local: 1}, 32001: {Namespace: "shop", Name: "b", Local: 1}, 32002: {Namespace: "shop", Name: "c", Local: 1},
	}
	err := n.set(t, want)
	var e *PortError
	if !errors.As(err, &e) || e.Port != 32001 || e.Namespace != "shop" || e.Name != "b" || !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("got error %v", err)
	}
	if text := err.Error(); text != "health-check node port 32001 of service shop/b: bind: address already in use" {
		t.Errorf("the error says %q", text)
	}
	for _, port := range []uint16{32000, 32002} {
		if got, err := ask(t, n.client(t, port, false), "/"); err != nil || got.status != 200 {
			t.Errorf("port %d: %+v, %v", port, got, err)
		}
	}
	if err := occupied.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.set(t, want); err != nil {
		t.Errorf("once it is free: %v", err)
	}
	if got, err := ask(t, n.client(t, 32001, false), "/"); err != nil || got.name != "b" {
		t.Errorf("once it is free: %+v, %v", got, err)
	}
}

func TestAListenerThatFailsIsOpenedAgain(t *testing.T) {
	n := newNode(t)
	want := map[uint16]Health{32000: {Namespace: "shop", Name: "web", Local: 1}}
	if err := n.set(t, want); err != nil {
		t.Fatal(err)
	}
	n.ports.mu.Lock()
	broken := n.ports.open[32000]
	n.ports.mu.Unlock()
	_ = broken.listener.Close() // as if the system had
	for deadline := time.Now().Add(10 * time.Second); ; {
		if err := n.set(t, want); err != nil {
			t.Fatal(err)
		}
		if got, err := ask(t, n.client(t, 32000, false), "/"); err == nil && got.status == 200 {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("it stays closed: %v", err)
		}
	}
}

func TestNothingIsOpenedAfterClose(t *testing.T) {
	n := newNode(t)
	n.ports.Close()
	if err := n.set(t, map[uint16]Health{32000: {}}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got error %v", err)
	}
	if err := New(hclog.NewNullLogger()).Set(map[uint16]Health{0: {Namespace: "a", Name: "b"}}); err == nil || !strings.Contains(err.Error(), "0 is no port") {
		t.Errorf("port 0: got error %v", err)
	}
}

// TestAnyHistoryEndsWithThePortsOfItsLastSet compares with what the kernel says is
// open, while somebody else takes and leaves ports.
func TestAnyHistoryEndsWithThePortsOfItsLastSet(t *testing.T) {
	outer, n := t, newNode(t)
	candidates := []uint16{32000, 32001, 32002, 32003}
	rapid.Check(t, func(t *rapid.T) {
		others := map[uint16]net.Listener{}
		defer func() {
			for _, l := range others {
				_ = l.Close()
			}
		}()
		for range rapid.IntRange(1, 8).Draw(t, "sets") {
			n.toggle(outer, t, others, rapid.SampledFrom(candidates).Draw(t, "occupied"))
			want := rapid.MapOf(rapid.SampledFrom(candidates), rapid.Custom(func(t *rapid.T) Health {
				return Health{Namespace: "shop", Name: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name"), Local: rapid.IntRange(0, 2).Draw(t, "local")}
			})).Draw(t, "want")
			err := n.set(outer, want)
			for _, port := range candidates {
				n.check(outer, t, port, want, others[port] != nil, err)
			}
		}
	})
}

// toggle makes somebody else occupy a port, or leave it; a port that is ours stays.
func (n *node) toggle(outer *testing.T, t *rapid.T, others map[uint16]net.Listener, port uint16) {
	if l := others[port]; l != nil {
		_ = l.Close()
		delete(others, port)
		return
	}
	n.ns.Do(outer, func() {
		l, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
		if err == nil {
			others[port] = l
		} else if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	})
}

// check compares one port with what was set.
func (n *node) check(outer *testing.T, t *rapid.T, port uint16, want map[uint16]Health, occupied bool, err error) {
	health, wanted := want[port]
	refused := err != nil && strings.Contains(err.Error(), fmt.Sprintf("node port %d ", port))
	if refused != (wanted && occupied) {
		t.Fatalf("port %d: wanted %v, occupied %v, error %v", port, wanted, occupied, err)
	}
	if occupied {
		return
	}
	got, err := ask(outer, n.client(outer, port, false), "/")
	switch {
	case !wanted && !errors.Is(err, syscall.ECONNREFUSED):
		t.Fatalf("port %d is not wanted: answer %+v, error %v", port, got, err)
	case wanted && (err != nil || got.name != health.Name || got.local != health.Local || (got.status == 200) != (health.Local > 0)):
		t.Fatalf("port %d of %+v: answer %+v, error %v", port, health, got, err)
	}
}
