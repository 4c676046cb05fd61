package relay

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/services/nodeagent/egressrouter/destination"
)

func TestTheWorldOutsideSeesTheRoutersAddressByHTTP(t *testing.T) {
	w := newWorld(t)
	w.serve(t, w.client, clientIP+":80")
	w.serve(t, w.pod, podIP+":80")
	w.zone.set("www.example.com.", [4]byte{192, 0, 2, 1})
	w.zone.set("other.example.com.", [4]byte{192, 0, 2, 2})
	w.zone.set("mixed.example.com.", [4]byte{192, 0, 2, 2}, [4]byte{192, 0, 2, 1})
	w.zone.set("no.example.org.", [4]byte{192, 0, 2, 1})
	w.zone.set("cluster.example.com.", [4]byte{10, 128, 0, 9})
	w.zone.set("self.example.com.", [4]byte{127, 0, 0, 1})
	p := w.proxy(t, variableHTTP, "!"+otherIP+"\n!*.example.org\n*")
	for _, c := range []struct {
		url    string
		status int
		body   string
	}{
		{"http://" + outsideIP + "/a?b=c", 200, sourceIP + " GET " + outsideIP + "/a?b=c at " + outsideIP + `:80, via "1.1 damask-egress-router", proxy-connection "", forwarded "", `},
		{"http://WWW.example.com/", 200, sourceIP + " GET WWW.example.com/ at " + outsideIP + ":80"},
		{"http://" + otherIP + "/", 403, "not an allowed destination"},
		{"http://other.example.com/", 403, "not an allowed destination"},
		{"http://mixed.example.com/", 200, "at " + outsideIP + ":80"}, // by the address that is allowed
		{"http://no.example.org/", 403, "not an allowed destination"},
		{"http://self.example.com/", 403, "not an allowed destination"},
		{"http://127.0.0.1/", 403, "not an allowed destination"},
		{"http://" + podIP + "/", 403, "is the router itself"},
		{"http://" + sourceIP + "/", 403, "is the router itself"},
		{"http://[::1]/", 403, "not an allowed destination"},
		{"http://missing.example.com/", 502, "no such host"},
		{"http://" + clientIP + "/", 502, "no route to host"}, // of the cluster: it does not leave by eth0
		{"http://cluster.example.com/", 502, "no route to host"},
		{"http://" + outsideIP + ":81/", 502, "connection refused"},
		{"/", 400, "this is a proxy"},
		{"ftp://" + outsideIP + "/", 400, "this is a proxy"},
	} {
		if status, body := w.get(t, c.url); status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s: %d %q, want %d %q", c.url, status, body, c.status, c.body)
		}
	}
	asked := w.zone.questions()
	if slices.Contains(asked, "no.example.org.") {
		t.Error("a name that is denied was looked up")
	}
	if i := slices.IndexFunc(asked, func(name string) bool { return strings.Contains(name, "cluster.local") }); i >= 0 {
		t.Errorf("%s was looked up, which nobody asked for", asked[i])
	}
	if status, body := w.ask(t, "POST http://"+outsideIP+"/ HTTP/1.1\nHost: x\nContent-Length: 5\nConnection: close\n\nhello"); status != 200 || !strings.HasSuffix(body, "hello") {
		t.Errorf("POST: %d %q", status, body)
	}
	w.tunnels(t)
	for _, address := range []string{sourceIP + ":8080", podIP + ":8080"} {
		if dial(t, w.outside, address) != nil {
			t.Errorf("it is a proxy for the world outside, at %s", address)
		}
	}
	p.Stop()
	if err := p.Err(); err != nil {
		t.Errorf("it stopped with %v", err)
	}
}

// tunnels is about CONNECT.
func (w *world) tunnels(t *testing.T) {
	t.Helper()
	for target, want := range map[string]int{otherIP + ":7": 403, "no.example.org:7": 403, outsideIP: 403, outsideIP + ":x": 400, outsideIP + ":0": 403, outsideIP + ":81": 502} {
		if status, body := w.ask(t, "CONNECT "+target+" HTTP/1.1\nHost: "+target+"\nConnection: close\n\n"); status != want {
			t.Errorf("CONNECT %s: %d %q, want %d", target, status, body, want)
		}
	}
	// What is said before the answer belongs to the destination.
	conn := dial(t, w.client, podIP+":8080").(*net.TCPConn)
	if _, err := io.WriteString(conn, "CONNECT www.example.com:7 HTTP/1.1\r\nHost: x\r\n\r\nearly "); err != nil {
		t.Fatal(err)
	}
	const established = "HTTP/1.1 200 Connection established\r\n\r\n"
	head := make([]byte, len(established))
	if _, err := io.ReadFull(conn, head); err != nil || string(head) != established {
		t.Fatalf("%q, %v", head, err)
	}
	long := bytes.Repeat([]byte("0123456789"), 100_000)
	_, _ = conn.Write(long)
	_ = conn.CloseWrite()
	got, err := io.ReadAll(conn)
	if want := sourceIP + " said early " + string(long); err != nil || string(got) != want {
		t.Errorf("%d bytes came, want %d; %v", len(got), len(want), err)
	}
}

func TestTheWorldOutsideSeesTheRoutersAddressByPorts(t *testing.T) {
	w := newWorld(t)
	w.serve(t, w.client, clientIP+":80")
	w.zone.set("www.example.com.", [4]byte{203, 0, 113, 200}, [4]byte{192, 0, 2, 1}, [4]byte{192, 0, 2, 2})
	w.outside.Run(t, "ip", "route", "add", "unreachable", "203.0.113.200")
	p := w.proxy(t, variableDNS, "7 "+outsideIP+"\n9 "+otherIP+" 7\n99 late.example.com 7\n100 www.example.com 7\n101 "+clientIP+" 7\n102 "+outsideIP+" 81")
	for port, want := range map[string]string{"7": sourceIP + " said hello", "9": sourceIP + " said hello", "99": "", "101": "", "102": ""} {
		if got := w.say(t, port); got != want {
			t.Errorf("port %s answers %q, want %q", port, got, want)
		}
	}
	// After an address that nobody has the next one is asked.
	if got := w.say(t, "100"); got != sourceIP+" said hello" {
		t.Errorf("a name answers %q", got)
	}
	w.zone.set("late.example.com.", [4]byte{192, 0, 2, 1})
	for deadline := time.Now().Add(patience); w.say(t, "99") != sourceIP+" said hello"; {
		if time.Now().After(deadline) {
			t.Fatal("a name that came later is not led to")
		}
	}
	if dial(t, w.outside, sourceIP+":7") != nil {
		t.Error("it leads the world outside")
	}
	p.Stop()
	if err := p.Err(); err != nil {
		t.Errorf("it stopped with %v", err)
	}
}

// say sends something to a port of the router, and answers what came back: nothing from one
// that is reset, which may be before we see it open.
func (w *world) say(t *testing.T, port string) string {
	t.Helper()
	conn := dial(t, w.client, podIP+":"+port)
	if conn == nil {
		return ""
	}
	_, _ = io.WriteString(conn, "hello")
	_ = conn.(*net.TCPConn).CloseWrite()
	got, _ := io.ReadAll(conn)
	return string(got)
}

// TestANameIsFollowed asks a real server, and loses it.
func TestANameIsFollowed(t *testing.T) {
	z := startZone(t, "127.0.0.1:0")
	z.set("www.example.com.", [4]byte{192, 0, 2, 1}, [4]byte{192, 0, 2, 2})
	out := newOutward("lo")
	out.resolver.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp4", z.conn.LocalAddr().String())
	}
	f := newForwarder(destination.Forward{Port: 80, Name: "www.example.com", ToPort: 80}, out, nil, hclog.NewNullLogger())
	ask := func(overdue bool) (first string, count int) {
		t.Helper()
		if overdue {
			f.again = time.Time{}
		}
		addrs, turn, err := f.addresses(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return addrs[turn].String(), len(addrs)
	}
	one, _ := ask(false)
	two, n := ask(false)
	if n != 2 || one == two || len(z.questions()) > 2 {
		t.Errorf("of %d addresses %s is followed by %s after %d questions", n, one, two, len(z.questions()))
	}
	z.set("www.example.com.", [4]byte{192, 0, 2, 3})
	if _, n := ask(false); n != 2 {
		t.Error("it was asked for again at once")
	}
	if addr, n := ask(true); n != 1 || addr != "192.0.2.3" {
		t.Errorf("it has %d addresses, %s", n, addr)
	}
	_ = z.conn.Close()
	before := time.Now()
	if addr, n := ask(true); n != 1 || addr != "192.0.2.3" {
		t.Errorf("without a server it has %d addresses, %s", n, addr)
	}
	if f.again.Before(before) || f.again.After(time.Now().Add(retryTime)) {
		t.Errorf("it is asked for again at %v", f.again)
	}
}

func TestTheEnvironmentSaysWhatItIs(t *testing.T) {
	env := func(pairs ...string) func(string) (string, bool) {
		return func(name string) (string, bool) {
			i := slices.Index(pairs, name)
			if i < 0 {
				return "", false
			}
			return pairs[i+1], true
		}
	}
	const none = "environment: either EGRESS_HTTP_PROXY_DESTINATION or EGRESS_DNS_PROXY_DESTINATION is required"
	for _, c := range []struct {
		lookup func(string) (string, bool)
		want   string
	}{
		{env(), none},
		{env(variableHTTP, "*", variableDNS, "80 a"), none},
		{env(variableHTTP, "*", variableLog, "loud"), variableLog + `: "loud" is not trace, debug, info, warn or error`},
		{env(variableHTTP, ""), variableHTTP + ": at least one destination is needed"},
		{env(variableDNS, "x y\n80 a\n80 b"), variableDNS + `: line 1: "x" is not a port: 1 to 65535` + "\n" + variableDNS + ": line 3: port 80 is that of line 2 already"},
	} {
		if _, err := FromEnvironment("macvlan0", c.lookup); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	c, err := FromEnvironment("macvlan0", env(variableHTTP, "*"))
	if err != nil || c.HTTP == nil || !c.HTTP.Allows("", netip.MustParseAddr("192.0.2.1")) || len(c.Forwards) > 0 || c.Device != "macvlan0" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestItIsRefusedBeforeItBegins(t *testing.T) {
	for _, c := range []struct {
		args []string
		env  string
		code int
		says string
	}{
		{[]string{"-check"}, "*", daemon.ExitOK, "environment: ok\n"},
		{[]string{"-check"}, "!", daemon.ExitError, "EGRESS_HTTP_PROXY_DESTINATION: line 1"},
		{[]string{"x"}, "*", daemon.ExitUsage, `unexpected argument "x"`},
		{[]string{"-version"}, "", daemon.ExitOK, "damask-egress-router "},
		{[]string{"-config", "x"}, "*", daemon.ExitUsage, "not defined: -config"},
		{nil, "*", daemon.ExitError, "the pod has no no-such-link: it is no egress router, or not by Damask"},
	} {
		t.Setenv(variableHTTP, c.env)
		var out bytes.Buffer
		if code := Program("no-such-link").Execute(t.Context(), c.args, &out, &out); code != c.code || !strings.Contains(out.String(), c.says) {
			t.Errorf("%v: %d %q, want %d %q", c.args, code, out.String(), c.code, c.says)
		}
	}
}
