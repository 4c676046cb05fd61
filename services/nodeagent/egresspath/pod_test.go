package egresspath

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/link"
)

const (
	// answerLimit is how long an answer that must come may take on a busy machine.
	answerLimit = 5 * time.Second
	// silence is how long no answer must come before it is called dropped.
	silence = 400 * time.Millisecond
)

// pod is a pod with its address.
type pod struct {
	ns   *netnstest.Namespace
	ip   netip.Addr
	port intent.Pod
}

// addPod attaches a pod to a node, with this last byte of its address.
func (n *node) addPod(t *testing.T, namespace string, last byte) *pod {
	t.Helper()
	base := subnet(n.index).Addr().As4()
	base[3] = last
	name := fmt.Sprintf("pod%d", last)
	p := &pod{ns: netnstest.New(t, namespace+"/"+name), ip: netip.AddrFrom4(base)}
	network, _ := n.state.Network()
	veth := fmt.Sprintf("veth%08x", last)
	_, err := n.links.EnsurePod(patience(t), link.Pod{
		Netns: p.ns.Path(), Interface: "eth0", HostVeth: veth, Address: netip.PrefixFrom(p.ip, subnet(n.index).Bits()),
		Gateway: network.Node.Gateway, ClusterNetworks: cluster, MTU: mtu,
	})
	if err != nil {
		t.Fatal(err)
	}
	port, err := n.bridge.AddPort(patience(t), bridge.Port{Name: veth})
	if err != nil {
		t.Fatal(err)
	}
	p.port = intent.Pod{Namespace: namespace, Name: name, Sandbox: name, Ifname: "eth0", IP: p.ip, Port: port}
	if err := n.program.Program(patience(t), n.state.AddPod(p.port)); err != nil {
		t.Fatal(err)
	}
	n.isolate(t, p)
	return p
}

// serve makes a host answer by TCP and UDP with the address that it sees.
func serve(t *testing.T, host *netnstest.Namespace, address string) {
	t.Helper()
	var listener net.Listener
	var packets net.PacketConn
	var err error
	host.Do(t, func() {
		if listener, err = net.Listen("tcp4", address); err == nil {
			packets, err = net.ListenPacket("udp4", address)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = listener.Close(), packets.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				request := make([]byte, 100)
				for {
					if _, err := conn.Read(request); err != nil {
						return
					}
					_, _ = conn.Write([]byte(conn.RemoteAddr().(*net.TCPAddr).IP.String()))
				}
			}()
		}
	}()
	go func() {
		request := make([]byte, 100)
		for {
			_, from, err := packets.ReadFrom(request)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo([]byte(from.(*net.UDPAddr).IP.String()), from)
		}
	}()
}

// dial opens a connection of a pod.
func (p *pod) dial(t *testing.T, network, address string, limit time.Duration) (net.Conn, error) {
	t.Helper()
	var conn net.Conn
	var err error
	p.ns.Do(t, func() { conn, err = net.DialTimeout(network, address, limit) })
	return conn, err
}

// ask sends something and answers what came back.
func ask(conn net.Conn, limit time.Duration) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte("who am I")); err != nil {
		return "", err
	}
	reply := make([]byte, 100)
	n, err := conn.Read(reply)
	return string(reply[:n]), err
}

// seenAs asks the host outside by TCP, UDP and ICMP, and answers as whom it sees the pod
// by TCP and UDP. Of ICMP the witness tells.
func (p *pod) seenAs(t *testing.T) (tcp, udp string) {
	t.Helper()
	answers := map[string]string{}
	for _, network := range []string{"tcp4", "udp4"} {
		conn, err := p.dial(t, network, outsideIP+":8080", answerLimit)
		if err != nil {
			t.Errorf("%s: %v", p.ns.Name(), err)
			continue
		}
		if answers[network], err = ask(conn, answerLimit); err != nil {
			t.Errorf("%s by %s: %v", p.ns.Name(), network, err)
		}
		_ = conn.Close()
	}
	p.ns.Run(t, "ping", "-c", "1", "-W", "5", outsideIP)
	return answers["tcp4"], answers["udp4"]
}

// wantSeenAs wants one address, by all protocols.
func (p *pod) wantSeenAs(t *testing.T, want string) {
	t.Helper()
	if tcp, udp := p.seenAs(t); tcp != want || udp != want {
		t.Errorf("outside sees %s as %s by TCP and %s by UDP, want %s", p.ns.Name(), tcp, udp, want)
	}
}

// wantClosed wants that nothing of the pod gets out.
func (p *pod) wantClosed(t *testing.T) {
	t.Helper()
	for _, network := range []string{"tcp4", "udp4"} {
		conn, err := p.dial(t, network, outsideIP+":8080", silence)
		if err != nil {
			continue
		}
		if answer, err := ask(conn, silence); err == nil {
			t.Errorf("outside answers %s, that it is %s, and it should be closed", p.ns.Name(), answer)
		}
		_ = conn.Close()
	}
}
