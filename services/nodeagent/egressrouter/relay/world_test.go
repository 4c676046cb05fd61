package relay

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
)

// asProgram makes the test binary the program itself.
const asProgram = "DAMASK_RELAY_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(Program("macvlan0").Main())
	}
	os.Exit(m.Run())
}

const (
	podIP, clientIP, sourceIP, outsideIP, otherIP = "10.128.0.2", "10.128.0.9", "192.0.2.99", "192.0.2.1", "192.0.2.2"
	patience                                      = 15 * time.Second
)

// world is a router's pod, a client in the cluster at its eth0, and a host outside at its
// macvlan0, which is also its gateway and its DNS server.
type world struct {
	pod, client, outside *netnstest.Namespace
	zone                 *zone
}

func newWorld(t *testing.T) *world {
	proctest.Need(t, "ip", "setpriv", "unshare", "mount")
	w := &world{pod: netnstest.New(t, "pod"), client: netnstest.New(t, "client"), outside: netnstest.New(t, "outside")}
	w.client.Connect(t, "eth0", w.pod, "eth0")
	w.outside.Connect(t, "eth0", w.pod, "macvlan0")
	for ns, lines := range map[*netnstest.Namespace][]string{
		w.client:  {"address add " + clientIP + "/23 dev eth0", "link set eth0 up"},
		w.outside: {"address add " + outsideIP + "/24 dev eth0", "address add " + otherIP + "/24 dev eth0", "link set eth0 up", "route add " + podIP + " via " + sourceIP, "route add unreachable 10.128.0.8/29"},
		w.pod: {"address add " + podIP + "/23 dev eth0", "link set eth0 up", "address add " + sourceIP + "/24 dev macvlan0", "link set macvlan0 up",
			"route add default via " + outsideIP},
	} {
		for _, line := range lines {
			ns.Run(t, "ip", strings.Fields(line)...)
		}
	}
	w.outside.Run(t, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
	w.pod.Run(t, "sysctl", "-q", "-w", "net.ipv4.ip_unprivileged_port_start=0")
	w.outside.Do(t, func() { w.zone = startZone(t, outsideIP+":53") })
	w.serve(t, w.outside, outsideIP+":80")
	w.serve(t, w.outside, otherIP+":80")
	return w
}

// serve answers HTTP with whom it sees and what it got, and other TCP with an echo.
func (w *world) serve(t *testing.T, at *netnstest.Namespace, address string) {
	t.Helper()
	var web, echo net.Listener
	var err, err2 error
	host, _, _ := net.SplitHostPort(address)
	at.Do(t, func() {
		web, err = net.Listen("tcp4", address)
		echo, err2 = net.Listen("tcp4", host+":7")
	})
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		from, _, _ := net.SplitHostPort(r.RemoteAddr)
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(rw, "%s %s %s%s at %s, via %q, proxy-connection %q, forwarded %q, %s", from, r.Method, r.Host, r.URL, address,
			r.Header.Get("Via"), r.Header.Get("Proxy-Connection"), r.Header.Get("X-Forwarded-For"), body)
	})}
	go func() { _ = server.Serve(web) }()
	t.Cleanup(func() { _ = server.Close() })
	t.Cleanup(func() { _ = echo.Close() })
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				from, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
				said, _ := io.ReadAll(conn) // until the client has said all
				fmt.Fprintf(conn, "%s said %s", from, said)
			}()
		}
	}()
}

// log is what a program said.
type log struct {
	mu    sync.Mutex
	text  bytes.Buffer
	ready chan struct{}
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := strings.Contains(l.text.String(), "is ready")
	l.text.Write(p)
	if !was && strings.Contains(l.text.String(), "is ready") {
		close(l.ready)
	}
	return len(p), nil
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// proxy starts the program in the pod without a single capability, with a DNS server of its
// own, as a kubelet would.
func (w *world) proxy(t *testing.T, variable, text string) *proctest.Process {
	t.Helper()
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, []byte("search cluster.local\noptions ndots:5\nnameserver "+outsideIP+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := w.pod.Command("unshare", "-m", "sh", "-ec", `mount --bind "$1" /etc/resolv.conf; exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs env EGRESS_ROUTER_LOG=debug "$2"`, "sh", resolv, self)
	cmd.Env = append(os.Environ(), asProgram+"=1", variable+"="+text)
	said := &log{ready: make(chan struct{})}
	cmd.Stderr = said
	p := proctest.Start(t, cmd)
	select {
	case <-said.ready:
	case <-p.Done():
		t.Fatalf("it ended: %v\n%s", p.Err(), said)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("it said\n%s", said)
		}
	})
	return p
}

// dial connects from a namespace; nil if nobody answers.
func dial(t *testing.T, from *netnstest.Namespace, address string) net.Conn {
	t.Helper()
	var conn net.Conn
	var err error
	from.Do(t, func() { conn, err = net.DialTimeout("tcp4", address, patience) })
	if err != nil {
		return nil
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ask sends a request to the proxy, and answers the status and what came.
func (w *world) ask(t *testing.T, request string) (status int, body string) {
	t.Helper()
	conn := dial(t, w.client, podIP+":8080")
	if conn == nil {
		t.Fatal("the proxy does not answer")
	}
	if _, err := io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// get asks for a URL.
func (w *world) get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	return w.ask(t, "GET "+url+" HTTP/1.1\nHost: not.the.urls\nProxy-Connection: close\nConnection: close\n\n")
}

// zone is a DNS server.
type zone struct {
	mu    sync.Mutex
	names map[string][][4]byte
	asked []string
	conn  net.PacketConn
}

// startZone listens where it is called.
func startZone(t *testing.T, address string) *zone {
	t.Helper()
	conn, err := net.ListenPacket("udp4", address)
	if err != nil {
		t.Fatal(err)
	}
	z := &zone{names: map[string][][4]byte{}, conn: conn}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		packet := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			if answer, err := z.answer(packet[:n]); err == nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	return z
}

func (z *zone) set(name string, addrs ...[4]byte) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.names[name] = addrs
}

// questions are the names that were asked for, in order.
func (z *zone) questions() []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return slices.Clone(z.asked)
}

func (z *zone) answer(question []byte) ([]byte, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil || len(m.Questions) != 1 {
		return nil, fmt.Errorf("no question: %w", err)
	}
	q := m.Questions[0]
	name := strings.ToLower(q.Name.String())
	z.asked = append(z.asked, name)
	answer := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true, RCode: dnsmessage.RCodeNameError}, Questions: m.Questions}
	for _, a := range z.names[name] {
		answer.RCode = dnsmessage.RCodeSuccess
		if q.Type == dnsmessage.TypeA {
			answer.Answers = append(answer.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 1}, Body: &dnsmessage.AResource{A: a},
			})
		}
	}
	return answer.Pack()
}
