package idle

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/internal/serviceview"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
	proxyiptables "github.com/damask-sdn/damask/services/nodeagent/proxy/iptables"
	proxynftables "github.com/damask-sdn/damask/services/nodeagent/proxy/nftables"
)

// Addresses of the rig.
const (
	clientAddress  = "10.128.0.20"
	backendAddress = "10.130.0.10"
	nodeAddress    = "10.130.0.1"
	clusterIP      = "172.30.0.10"
	nodePort       = 30080
)

var web = serviceview.Name{Namespace: "shop", Service: "web"}

// patience bounds everything that a test waits for.
const patience = 20 * time.Second

// rig is a client, a node and a backend, with a service that has no endpoint yet. The
// node's way to everything else leads to a host that is not there.
type rig struct {
	client, node, backend *netnstest.Namespace
	program               string
	engine                proxy.Engine
	gate                  *Gate
	needs                 chan serviceview.Name
}

// kind is a backend of iptables, and an engine beside it.
type kind struct {
	program string
	engine  func(node proxy.Node, program string) (proxy.Engine, error)
}

var kinds = map[string]kind{
	"iptables-nft, engine iptables": {"iptables-nft", func(n proxy.Node, program string) (proxy.Engine, error) {
		return proxyiptables.New(n, program)
	}},
	"iptables-legacy, engine iptables": {"iptables-legacy", func(n proxy.Node, program string) (proxy.Engine, error) {
		return proxyiptables.New(n, program)
	}},
	"iptables-nft, engine nftables": {"iptables-nft", func(n proxy.Node, _ string) (proxy.Engine, error) {
		return proxynftables.New(n)
	}},
}

// eachKind runs a test with all of them.
func eachKind(t *testing.T, test func(t *testing.T, r *rig)) {
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) { test(t, newRig(t, k)) })
	}
}

func newRig(t *testing.T, k kind) *rig {
	t.Helper()
	proctest.Need(t, "ip", "sysctl", k.program)
	r := &rig{
		client: netnstest.New(t, "client"), node: netnstest.New(t, "node"), backend: netnstest.New(t, "backend"),
		program: k.program, needs: make(chan serviceview.Name, 100),
	}
	r.node.Connect(t, "client", r.client, "eth0")
	r.node.Connect(t, "backend", r.backend, "eth0")
	script(t, r.node, `
		ip address add 10.128.0.1/24 dev client; ip link set client up
		ip address add 10.130.0.1/24 dev backend; ip link set backend up
		ip route add default via 10.130.0.254
		sysctl -q -w net.ipv4.ip_forward=1`)
	script(t, r.client, "ip address add "+clientAddress+"/24 dev eth0; ip link set eth0 up; ip route add default via 10.128.0.1")
	script(t, r.backend, "ip address add "+backendAddress+"/24 dev eth0; ip link set eth0 up; ip route add default via 10.130.0.1")
	r.serve(t)
	var err error
	r.engine, err = k.engine(proxy.Node{
		ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")}, Gateway: "client",
	}, k.program)
	if err != nil {
		t.Fatal(err)
	}
	r.node.Do(t, func() { _, err = r.engine.Sync(t.Context(), proxy.State{}) })
	if err != nil {
		t.Fatal(err)
	}
	r.start(t)
	return r
}

// start makes a gate, as a started agent does.
func (r *rig) start(t *testing.T) {
	t.Helper()
	gate, err := New(Config{Program: r.program, Need: func(namespace, name string) {
		r.needs <- serviceview.Name{Namespace: namespace, Service: name}
	}}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(gate.Close)
	r.gate = gate
}

// script runs shell lines in a namespace; the first that fails, fails the test.
func script(t testing.TB, ns *netnstest.Namespace, lines string) {
	t.Helper()
	ns.Run(t, "sh", "-e", "-c", lines)
}

// serve answers, in the backend, every TCP connection and every datagram with the
// address that it sees as the client's.
func (r *rig) serve(t *testing.T) {
	t.Helper()
	var stream net.Listener
	var datagrams net.PacketConn
	var err, errPacket error
	r.backend.Do(t, func() {
		stream, err = net.Listen("tcp4", ":8080")
		datagrams, errPacket = net.ListenPacket("udp4", ":8080")
	})
	if err != nil || errPacket != nil {
		t.Fatal(err, errPacket)
	}
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			conn, err := stream.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = fmt.Fprintln(conn, conn.RemoteAddr())
				_, _ = conn.Read(make([]byte, 1)) // until the client leaves
				_ = conn.Close()
			}()
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			b := make([]byte, 100)
			n, from, err := datagrams.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = datagrams.WriteTo([]byte(string(b[:n])+" "+from.String()), from)
		}
	}()
	t.Cleanup(func() {
		_, _ = stream.Close(), datagrams.Close()
		<-done
		<-done
	})
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// frontends are those of the service, for both protocols.
func frontends() []Frontend {
	var all []Frontend
	for _, p := range []proxy.Protocol{proxy.TCP, proxy.UDP} {
		all = append(all, Frontend{addr(clusterIP), p, 80}, Frontend{Protocol: p, Port: nodePort})
	}
	return all
}

// endpoints makes the engine program an endpoint for the service, or none.
func (r *rig) endpoints(t *testing.T, there bool) {
	t.Helper()
	var changes []proxy.Change
	for _, p := range []proxy.Protocol{proxy.TCP, proxy.UDP} {
		s := proxy.Service{
			Key:        proxy.Key{Namespace: web.Namespace, Name: web.Service, PortName: strings.ToLower(string(p)), Protocol: p},
			ClusterIPs: []netip.Addr{addr(clusterIP)}, Port: 80, NodePort: nodePort, ExternalLocal: true,
		}
		if there {
			s.ClusterBackends = []proxy.Backend{{Addr: addr(backendAddress), Port: 8080, Local: true}}
			s.ExternalBackends = s.ClusterBackends
		}
		changes = append(changes, proxy.Change{Key: s.Key, Service: &s})
	}
	var err error
	r.node.Do(t, func() { err = r.engine.Apply(t.Context(), changes...) })
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) hold(t testing.TB, name serviceview.Name, frontends []Frontend) {
	t.Helper()
	var err error
	r.node.Do(t, func() { err = r.gate.Hold(context.Background(), name, frontends) })
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) release(t testing.TB, name serviceview.Name) {
	t.Helper()
	var err error
	r.node.Do(t, func() { err = r.gate.Release(context.Background(), name) })
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) sync(t testing.TB, services Services) (err error) {
	t.Helper()
	r.node.Do(t, func() { err = r.gate.Sync(context.Background(), services) })
	return err
}

// needed waits until pods are called for.
func (r *rig) needed(t *testing.T, want serviceview.Name) {
	t.Helper()
	select {
	case got := <-r.needs:
		if got != want {
			t.Fatalf("pods are called for %v, want %v", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("nobody calls for pods of %v; %+v", want, r.gate.Stats())
	}
}

// until waits for a condition of the gate's counts, which nothing else tells.
func (r *rig) until(t *testing.T, what string, condition func(Stats) bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !condition(r.gate.Stats()); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: %+v", what, r.gate.Stats())
		}
	}
}

// attempt is a connection that is being made.
type attempt struct {
	conn net.Conn
	seen string // the client's address as the backend saw it
	at   time.Time
	err  error
}

// connect makes a connection beside the test.
func connect(t *testing.T, from *netnstest.Namespace, to string) <-chan attempt {
	t.Helper()
	result := make(chan attempt, 1)
	go func() {
		var a attempt
		from.Do(t, func() { a.conn, a.err = (&net.Dialer{Timeout: patience}).Dial("tcp4", to) })
		a.at = time.Now()
		if a.err == nil {
			b := make([]byte, 100)
			_ = a.conn.SetReadDeadline(time.Now().Add(patience))
			n, err := a.conn.Read(b)
			a.err = err
			host, _, _ := net.SplitHostPort(strings.TrimSpace(string(b[:n])))
			a.seen = host
		}
		result <- a
	}()
	t.Cleanup(func() {
		select {
		case a := <-result:
			if a.conn != nil {
				_ = a.conn.Close()
			}
		default:
		}
	})
	return result
}

// saved answers all rules, without their counters.
func (r *rig) saved(t testing.TB) string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(r.node.Run(t, r.program+"-save")) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ":PREROUTING") && !strings.HasPrefix(line, ":OUTPUT") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}
