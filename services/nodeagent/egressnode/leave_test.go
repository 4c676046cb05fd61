package egressnode_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/egressmark"
	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
)

const limit = 10 * time.Second

// addPods makes tun0, a bridge here, with two pods behind it: the flows of one write its
// mark into the source MAC, as table 100 does on the userspace datapath.
func (w *world) addPods(t *testing.T, mark uint32) (marked, plain *netnstest.Namespace) {
	t.Helper()
	w.node.Run(t, "ip", "link", "add", "tun0", "type", "bridge")
	w.node.Run(t, "ip", "address", "add", "10.130.0.1/23", "dev", "tun0")
	w.node.Run(t, "ip", "link", "set", "tun0", "up")
	w.node.Run(t, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
	var pods []*netnstest.Namespace
	for i, mac := range []net.HardwareAddr{egressmark.MAC(mark), {0x0a, 0x58, 10, 130, 0, 6}} {
		pod, veth := netnstest.New(t, "pod"), fmt.Sprintf("veth%d", i)
		w.node.Connect(t, veth, pod, "eth0")
		w.node.Run(t, "ip", "link", "set", veth, "master", "tun0", "up")
		pod.Run(t, "ip", "link", "set", "eth0", "address", mac.String(), "up")
		pod.Run(t, "ip", "address", "add", fmt.Sprintf("10.130.0.%d/23", 5+i), "dev", "eth0")
		pod.Run(t, "ip", "route", "add", "default", "via", "10.130.0.1")
		pods = append(pods, pod)
	}
	return pods[0], pods[1]
}

// rules are the node's, of one kind of iptables.
func (w *world) rules(t *testing.T, program string, egress ...masquerade.EgressIP) {
	t.Helper()
	proctest.Need(t, program)
	dir := t.TempDir()
	for _, suffix := range []string{"", "-restore"} {
		target, err := exec.LookPath(program + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, "iptables"+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	rules, err := masquerade.New()
	if err != nil {
		t.Fatal(err)
	}
	w.node.Do(t, func() {
		if _, err = rules.SetEgress(t.Context(), egress); err == nil {
			_, err = rules.Ensure(t.Context(), masquerade.Config{
				ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")}, TunnelPort: 4789, Userspace: true,
			})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestOutsideSeesTheEgressIP sends real packets through a node that hosts.
func TestOutsideSeesTheEgressIP(t *testing.T) {
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run(program, func(t *testing.T) {
			mark, err := egressmark.Of(8583346, 0, egressmark.Reserved{})
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld(t, "eth0")
			marked, plain := w.addPods(t, mark)
			w.rules(t, program, masquerade.EgressIP{Mark: mark, IP: netip.MustParseAddr("192.0.2.100")})
			w.hold(t, "192.0.2.100")
			for _, c := range []struct {
				name string
				pod  *netnstest.Namespace
				want string
			}{{"the pod with an egress IP", marked, "192.0.2.100"}, {"the pod without", plain, nodeIP}} {
				for protocol, seen := range map[string]string{"TCP": w.seenTCP(t, c.pod), "UDP": w.seenPacket(t, c.pod, "udp4"), "ICMP": w.seenPacket(t, c.pod, "ip4:icmp")} {
					if seen != c.want {
						t.Errorf("%s, %s: outside sees %s, want %s", c.name, protocol, seen, c.want)
					}
				}
			}
			w.refused(t)
		})
	}
}

// seenTCP answers the source of a connection from a pod, as outside sees it, when data
// has passed both ways.
func (w *world) seenTCP(t *testing.T, pod *netnstest.Namespace) string {
	t.Helper()
	var listener net.Listener
	var err error
	w.outside.Do(t, func() { listener, err = net.Listen("tcp4", outsideIP+":0") })
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	seen := make(chan string, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			seen <- err.Error()
			return
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("x"))
		seen <- conn.RemoteAddr().(*net.TCPAddr).IP.String()
	}()
	var conn net.Conn
	pod.Do(t, func() { conn, err = net.DialTimeout("tcp4", listener.Addr().String(), limit) })
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	if n, err := conn.Read(make([]byte, 1)); n != 1 {
		t.Fatalf("nothing comes back: %v", err)
	}
	return <-seen
}

// seenPacket answers the source of a packet without a connection.
func (w *world) seenPacket(t *testing.T, pod *netnstest.Namespace, network string) string {
	t.Helper()
	var server net.PacketConn
	var client net.Conn
	var err error
	address := map[string]string{"udp4": outsideIP + ":7777", "ip4:icmp": outsideIP}[network]
	w.outside.Do(t, func() { server, err = net.ListenPacket(network, address) })
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	pod.Do(t, func() { client, err = net.Dial(network, address) })
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	// An echo request with its checksum; UDP does not mind.
	if _, err := client.Write([]byte{8, 0, 0xf7, 0xfd, 0, 1, 0, 1}); err != nil {
		t.Fatal(err)
	}
	_ = server.SetDeadline(time.Now().Add(limit))
	_, from, err := server.ReadFrom(make([]byte, 100))
	if err != nil {
		t.Fatal(err)
	}
	switch from := from.(type) {
	case *net.UDPAddr:
		return from.IP.String()
	case *net.IPAddr:
		return from.IP.String()
	}
	return from.String()
}

// refused asks a server of the node by both addresses.
func (w *world) refused(t *testing.T) {
	t.Helper()
	var listener net.Listener
	var err error
	w.node.Do(t, func() { listener, err = net.Listen("tcp4", "0.0.0.0:8080") })
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	w.outside.Do(t, func() {
		conn, err := net.DialTimeout("tcp4", nodeIP+":8080", limit)
		if err != nil {
			t.Errorf("the node's address: %v", err)
		} else {
			_ = conn.Close()
		}
		if conn, err := net.DialTimeout("tcp4", "192.0.2.100:8080", limit); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the egress IP: %v, %v, want that it is refused", conn, err)
		}
	})
}
