package hostport

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
)

const (
	patience = 5 * time.Second
	silence  = 400 * time.Millisecond // the rig answers in less than a millisecond
	webIP    = "10.130.0.10"
	apiIP    = "10.130.0.11"
	nodeIP   = "192.0.2.1"
)

// rig is a node with two pods that serve on 8080, a host outside with two addresses, and
// the rules of one backend of iptables.
type rig struct {
	program                 string
	node, web, api, outside *netnstest.Namespace
	settings                Node
	rules                   *Rules
}

// eachBackend runs a test with each backend on a node of its own.
func eachBackend(t *testing.T, test func(t *testing.T, r *rig)) {
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run(program, func(t *testing.T) { test(t, newRig(t, program)) })
	}
}

func newRig(t *testing.T, program string) *rig {
	t.Helper()
	proctest.Need(t, "ip", "sysctl", program)
	r := &rig{
		program: program, node: netnstest.New(t, "node"), web: netnstest.New(t, "web"), api: netnstest.New(t, "api"), outside: netnstest.New(t, "outside"),
		settings: Node{Pods: netip.MustParsePrefix("10.130.0.0/23"), ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")}},
	}
	r.script(t, r.node, `
		ip link add tun0 type bridge
		ip address add 10.130.0.1/23 dev tun0
		ip link set tun0 up
		for s in ip_forward=1 conf.all.rp_filter=0 conf.tun0.rp_filter=0 conf.all.send_redirects=0 conf.tun0.send_redirects=0; do sysctl -q -w net.ipv4.$s; done
		if test -e /proc/sys/net/bridge/bridge-nf-call-iptables; then sysctl -q -w net.bridge.bridge-nf-call-iptables=0; fi`)
	r.pod(t, r.web, "web", webIP)
	r.pod(t, r.api, "api", apiIP)
	r.node.Connect(t, "eth0", r.outside, "eth0")
	r.script(t, r.node, "ip address add 192.0.2.1/24 dev eth0; ip address add 192.0.2.2/24 dev eth0; ip link set eth0 up")
	r.script(t, r.outside, "ip address add 192.0.2.10/24 dev eth0; ip address add 192.0.2.11/24 dev eth0; ip link set eth0 up; ip route add default via 192.0.2.1")
	r.serve(t, r.web, "web")
	r.serve(t, r.api, "api")
	r.restart(t)
	return r
}

func (r *rig) script(t *testing.T, ns *netnstest.Namespace, lines string) {
	t.Helper()
	ns.Run(t, "sh", "-e", "-c", lines)
}

// pod connects a namespace to tun0 in a way that what it sends to pods passes the node.
func (r *rig) pod(t *testing.T, ns *netnstest.Namespace, name, address string) {
	t.Helper()
	r.node.Connect(t, "veth-"+name, ns, "eth0")
	r.script(t, r.node, "ip link set veth-"+name+" master tun0 up; ip link set veth-"+name+" type bridge_slave hairpin on")
	r.script(t, ns, "ip address add "+address+"/32 dev eth0; ip link set eth0 up; ip route add 10.130.0.1 dev eth0; ip route add default via 10.130.0.1")
}

// serve says, by TCP and UDP, who serves and whom it sees.
func (r *rig) serve(t *testing.T, ns *netnstest.Namespace, name string) {
	t.Helper()
	var listener net.Listener
	var packets net.PacketConn
	var err error
	ns.Do(t, func() {
		if listener, err = net.Listen("tcp4", ":8080"); err == nil {
			packets, err = net.ListenPacket("udp4", ":8080")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = listener.Close(), packets.Close() })
	say := func(client net.Addr) []byte {
		host, _, _ := net.SplitHostPort(client.String())
		return fmt.Appendf(nil, "%s saw %s\n", name, host)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write(say(conn.RemoteAddr()))
			_ = conn.Close()
		}
	}()
	go func() {
		buffer := make([]byte, 100)
		for {
			_, client, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo(say(client), client)
		}
	}()
}

// ask answers what a client heard: an answer, or how it was refused.
func (r *rig) ask(t *testing.T, from *netnstest.Namespace, protocol, source, to string) string {
	t.Helper()
	var heard string
	from.Do(t, func() {
		dialer := net.Dialer{Timeout: patience}
		if source != "" {
			switch protocol {
			case "tcp":
				dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
			default:
				dialer.LocalAddr = &net.UDPAddr{IP: net.ParseIP(source)}
			}
		}
		conn, err := dialer.Dial(protocol+"4", to)
		if err != nil {
			heard = "error: " + err.Error()
			return
		}
		defer conn.Close()
		heard = converse(conn, protocol)
	})
	return heard
}

func converse(conn net.Conn, protocol string) string {
	wait := patience
	if protocol == "udp" {
		wait = silence
		if _, err := conn.Write([]byte("?")); err != nil {
			return "error: " + err.Error()
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(wait))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "error: " + err.Error()
	}
	return strings.TrimSpace(line)
}

// wants checks what a client hears.
func (r *rig) wants(t *testing.T, what string, from *netnstest.Namespace, protocol, to, want string) {
	t.Helper()
	if got := r.ask(t, from, protocol, "", to); got != want && !(want == "error" && strings.HasPrefix(got, want)) {
		t.Errorf("%s: %s to %s: heard %q, want %q", what, protocol, to, got, want)
	}
}

// restart makes rules anew, as an agent that starts does.
func (r *rig) restart(t *testing.T) {
	t.Helper()
	var err error
	if r.rules, err = New(r.program); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) ensure(t *testing.T) []string {
	t.Helper()
	var repairs []string
	var err error
	r.node.Do(t, func() { repairs, err = r.rules.Ensure(t.Context(), r.settings) })
	if err != nil {
		t.Fatalf("Ensure: %v", err)
	}
	return repairs
}

func (r *rig) put(t *testing.T, owner string, mappings ...Mapping) {
	t.Helper()
	var err error
	r.node.Do(t, func() { err = r.rules.Put(t.Context(), owner, mappings) })
	if err != nil {
		t.Fatalf("Put: %v", err)
	}
}

// do runs iptables; an underline in a word is a blank.
func (r *rig) do(t *testing.T, arguments string) string {
	t.Helper()
	words := strings.Fields(arguments)
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], "_", " ")
	}
	return r.node.Run(t, r.program, append([]string{"-w"}, words...)...)
}

func (r *rig) save(t *testing.T) string {
	t.Helper()
	return r.do(t, "-t raw -S") + r.do(t, "-t nat -S")
}

// mapping leads a port to a pod's 8080.
func mapping(pod, ip string, port uint16, protocol Protocol) Mapping {
	return Mapping{Namespace: "red", Pod: pod, HostPort: port, Protocol: protocol, To: netip.AddrPortFrom(netip.MustParseAddr(ip), 8080)}
}
