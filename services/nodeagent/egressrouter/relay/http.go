package relay

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/services/nodeagent/egressrouter/destination"
)

const (
	// httpPort is where OpenShift's proxy listens, so that clients need no change.
	httpPort = 8080
	// headerTime and idleTime bound what a client may do without asking for anything.
	headerTime = 30 * time.Second
	idleTime   = 2 * time.Minute
	// via is how the proxy names itself in what it passes on (RFC 9110, section 7.6.3).
	via = "1.1 damask-egress-router"
)

// httpProxy answers CONNECT and requests with whole URLs (RFC 9110, section 9.3.6; RFC 9112,
// section 3.2.2).
type httpProxy struct {
	rules   destination.HTTPRules
	out     *outward
	pipes   *pipes
	forward *httputil.ReverseProxy
	log     hclog.Logger
}

func newHTTPProxy(rules destination.HTTPRules, out *outward, pipes *pipes, log hclog.Logger) *httpProxy {
	p := &httpProxy{rules: rules, out: out, pipes: pipes, log: log}
	p.forward = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.Host = r.In.Host
			r.Out.Header.Add("Via", via)
		},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Add("Via", via)
			return nil
		},
		Transport: &http.Transport{
			DialContext:        func(ctx context.Context, _, target string) (net.Conn, error) { return p.connect(ctx, target) },
			DisableCompression: true,
			IdleConnTimeout:    idleTime,
		},
		FlushInterval: -1, // What comes slowly is passed on at once.
		ErrorHandler:  p.fail,
		ErrorLog:      log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	return p
}

// ServeHTTP is one request.
func (p *httpProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodConnect:
		p.tunnel(w, r)
	case r.URL.Scheme == "http" && r.URL.Host != "":
		p.forward.ServeHTTP(w, r)
	default:
		http.Error(w, "this is a proxy: it takes CONNECT, and http:// URLs", http.StatusBadRequest)
	}
}

// tunnel connects, and then carries bytes.
func (p *httpProxy) tunnel(w http.ResponseWriter, r *http.Request) {
	server, err := p.connect(r.Context(), r.Host)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	p.pipes.all.Add(1)
	defer p.pipes.all.Done()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = server.Close()
		p.fail(w, r, err)
		return
	}
	_ = client.SetDeadline(time.Time{}) // The server's were for requests.
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		_ = server.Close()
		_ = client.Close()
		return
	}
	p.pipes.carry(client, rest(buffered.Reader, client), server)
}

// rest is what was read too early, and then the connection itself.
func rest(read *bufio.Reader, conn net.Conn) io.Reader {
	if read.Buffered() == 0 {
		return conn
	}
	early, _ := read.Peek(read.Buffered())
	return io.MultiReader(bytes.NewReader(early), conn)
}

// connect connects to HOST:PORT, by the first of its addresses that is allowed and answers.
func (p *httpProxy) connect(ctx context.Context, target string) (*net.TCPConn, error) {
	host, text, err := net.SplitHostPort(target)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is not HOST:PORT", errRefused, target)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is no port", errRefused, text)
	}
	name, addrs, err := p.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	problem := fmt.Errorf("%w: %s", errRefused, host)
	for _, addr := range addrs {
		if !p.rules.Allows(name, addr) {
			continue
		}
		conn, err := p.out.dial(ctx, netip.AddrPortFrom(addr, uint16(port)))
		if err == nil {
			return conn, nil
		}
		if problem = err; ctx.Err() != nil {
			break
		}
	}
	return nil, problem
}

// addresses are those of a host, with its name if it has been looked up.
func (p *httpProxy) addresses(ctx context.Context, host string) (name string, addrs []netip.Addr, err error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return "", []netip.Addr{addr.Unmap()}, nil
	}
	if p.rules.Denies(host) {
		return "", nil, fmt.Errorf("%w: %s", errRefused, host)
	}
	addrs, err = p.out.lookup(ctx, destination.HostName(host))
	return host, addrs, err
}

// fail tells a client why it gets nothing.
func (p *httpProxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	var network net.Error
	code := http.StatusBadGateway
	switch {
	case errors.Is(err, errRefused):
		code = http.StatusForbidden
	case errors.As(err, &network) && network.Timeout():
		code = http.StatusGatewayTimeout
	}
	p.log.Debug("not connected", "method", r.Method, "host", r.Host, "client", r.RemoteAddr, "error", err)
	http.Error(w, fmt.Sprintf("egress router: %v", err), code)
}
