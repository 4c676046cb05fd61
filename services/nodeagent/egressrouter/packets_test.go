package egressrouter_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/services/nodeagent/egressrouter"
	"github.com/damask-sdn/damask/services/nodeagent/egressrouter/annotation"
	"github.com/damask-sdn/damask/services/nodeagent/link"
)

// world is a node with a router pod: a client of the cluster is at the pod's eth0, and a
// host outside is on the node's underlay.
type world struct {
	links                      *link.Links
	node, pod, client, outside *netnstest.Namespace
}

const (
	podIP, sourceIP, outsideIP, otherIP = "10.128.0.2", "192.0.2.99", "192.0.2.1", "192.0.2.2"
)

func newWorld(t *testing.T) *world {
	w := &world{node: netnstest.New(t, "node"), pod: netnstest.New(t, "pod"), client: netnstest.New(t, "client"), outside: netnstest.New(t, "outside")}
	w.node.Connect(t, "under0", w.outside, "eth0")
	w.client.Connect(t, "eth0", w.pod, "eth0")
	ip := func(ns *netnstest.Namespace, line string) { ns.Run(t, "ip", strings.Fields(line)...) }
	ip(w.node, "address add 192.0.2.10/24 dev under0")
	ip(w.node, "link set under0 up")
	ip(w.outside, "address add "+outsideIP+"/24 dev eth0")
	ip(w.outside, "address add "+otherIP+"/24 dev eth0")
	ip(w.outside, "link set eth0 up")
	ip(w.client, "address add 10.128.0.9/23 dev eth0")
	ip(w.client, "link set eth0 up")
	ip(w.pod, "address add "+podIP+"/23 dev eth0")
	ip(w.pod, "link set eth0 up")
	var err error
	if w.links, err = link.Open(link.Config{Namespace: w.node.Path()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.links.Close() })
	return w
}

func annotations(more map[string]string) map[string]string {
	all := map[string]string{
		annotation.Assign:                    "true",
		"egress-router.damask/EGRESS_SOURCE": sourceIP, "egress-router.damask/EGRESS_GATEWAY": outsideIP,
		"egress-router.damask/EGRESS_DESTINATION": "80 tcp " + outsideIP + " 9090\n53 udp " + outsideIP + " 9053\n" + otherIP,
	}
	for key, value := range more {
		all[key] = value
	}
	return all
}

func spec(t *testing.T, annotations map[string]string) egressrouter.Spec {
	t.Helper()
	s, _, err := egressrouter.Parse(annotations)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) router(s egressrouter.Spec) link.Router {
	return link.Router{Netns: w.pod.Path(), Interface: egressrouter.Interface, Parent: "under0", Address: s.Source, Gateway: s.Gateway, LowPorts: s.LowPorts}
}

// ensure makes the pod a router, and answers what differed.
func (w *world) ensure(t *testing.T, s egressrouter.Spec) []string {
	t.Helper()
	lines, err := w.links.EnsureRouter(context.Background(), w.router(s))
	if err != nil {
		t.Fatal(err)
	}
	more, err := egressrouter.Ensure(context.Background(), w.pod.Path(), "eth0", s)
	if err != nil {
		t.Fatal(err)
	}
	return append(lines, more...)
}

// serve answers TCP and UDP of the host outside with whom it sees.
func (w *world) serve(t *testing.T) {
	t.Helper()
	w.outside.Do(t, func() {
		for _, address := range []string{outsideIP + ":9090", otherIP + ":7777"} {
			listener, err := net.Listen("tcp4", address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = listener.Close() })
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					fmt.Fprintf(conn, "%s at %s", conn.RemoteAddr().(*net.TCPAddr).IP, address)
					_ = conn.Close()
				}
			}()
		}
		packets, err := net.ListenPacket("udp4", outsideIP+":9053")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = packets.Close() })
		go func() {
			buf := make([]byte, 100)
			for {
				_, from, err := packets.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = packets.WriteTo([]byte(from.(*net.UDPAddr).IP.String()+" by udp"), from)
			}
		}()
	})
}

// ask connects to the router pod and answers what came back.
func (w *world) ask(t *testing.T, network, port string) string {
	t.Helper()
	answer := "nothing"
	w.client.Do(t, func() {
		conn, err := net.DialTimeout(network, podIP+":"+port, 5*time.Second)
		if err != nil {
			answer = err.Error()
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = conn.Write([]byte("who am I?"))
		buf := make([]byte, 100)
		if n, err := conn.Read(buf); err == nil {
			answer = string(buf[:n])
		}
	})
	return answer
}

func TestTheWorldOutsideSeesTheRoutersAddress(t *testing.T) {
	for name, source := range map[string]string{"an address alone": sourceIP, "an address with its network": sourceIP + "/24"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.serve(t)
			w.ensure(t, spec(t, annotations(map[string]string{"egress-router.damask/EGRESS_SOURCE": source})))
			for _, c := range []struct{ network, port, want string }{
				{"tcp4", "80", sourceIP + " at " + outsideIP + ":9090"},
				{"udp4", "53", sourceIP + " by udp"},
				{"tcp4", "7777", sourceIP + " at " + otherIP + ":7777"},
			} {
				if got := w.ask(t, c.network, c.port); got != c.want {
					t.Errorf("%s %s: answered %q, want %q", c.network, c.port, got, c.want)
				}
			}
			if out := w.client.Run(t, "ping", "-c", "1", "-W", "5", podIP); !strings.Contains(out, "1 received") {
				t.Errorf("ICMP, which the address for the rest gets: %s", out)
			}
		})
	}
}

func TestARouterIsComparedAndRepaired(t *testing.T) {
	w := newWorld(t)
	w.serve(t)
	s := spec(t, annotations(nil))
	if lines := w.ensure(t, s); len(lines) == 0 {
		t.Error("a new router differed in nothing")
	}
	if lines := w.ensure(t, s); len(lines) > 0 {
		t.Errorf("a second time %q differed", lines)
	}
	for name, damage := range map[string][]string{
		"macvlan0: is missing":                       {"ip", "link", "delete", "macvlan0"},
		"macvlan0: address 192.0.2.99/32 is missing": {"ip", "address", "delete", "192.0.2.99/32", "dev", "macvlan0"},
		"macvlan0: route default via 192.0.2.1":      {"ip", "route", "delete", "default"},
		"net.ipv4.ip_forward: is 0":                  {"sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward"},
		"nftables: table damask_router is missing":   {"nft", "delete", "table", "ip", "damask_router"},
		"nftables: chain postrouting has []":         {"nft", "flush", "chain", "ip", "damask_router", "postrouting"},
		"nftables: chain prerouting has":             {"nft", "insert", "rule", "ip", "damask_router", "prerouting", "drop"},
	} {
		t.Run(name, func(t *testing.T) {
			w.pod.Run(t, damage[0], damage[1:]...)
			found, err := w.links.CheckRouter(context.Background(), w.router(s))
			if err != nil {
				t.Fatal(err)
			}
			more, err := egressrouter.Check(context.Background(), w.pod.Path(), "eth0", s)
			if err != nil {
				t.Fatal(err)
			}
			if all := strings.Join(append(found, more...), "\n"); !strings.Contains(all, name) {
				t.Errorf("the check found %q", all)
			}
			if repaired := strings.Join(w.ensure(t, s), "\n"); !strings.Contains(repaired, name) {
				t.Errorf("repaired were %q", repaired)
			}
			if again := w.ensure(t, s); len(again) > 0 {
				t.Errorf("after the repair %q differs", again)
			}
			if got, want := w.ask(t, "tcp4", "80"), sourceIP+" at "+outsideIP+":9090"; got != want {
				t.Errorf("after the repair it answers %q, want %q", got, want)
			}
		})
	}
}

func TestAProxyForNamesMayHaveLowPorts(t *testing.T) {
	for mode, want := range map[string]string{"http-proxy": "1024", "dns-proxy": "0"} {
		w := newWorld(t)
		all := annotations(map[string]string{"egress-router.damask/EGRESS_ROUTER_MODE": mode})
		delete(all, "egress-router.damask/EGRESS_DESTINATION")
		s := spec(t, all)
		w.ensure(t, s)
		if got := strings.TrimSpace(w.pod.Run(t, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start")); got != want {
			t.Errorf("%s: anybody may have ports from %s on, want %s", mode, got, want)
		}
		if again := w.ensure(t, s); len(again) > 0 {
			t.Errorf("%s: a second time %q differs", mode, again)
		}
	}
}

func TestNothingOfARouterIsLeft(t *testing.T) {
	w := newWorld(t)
	w.ensure(t, spec(t, annotations(nil)))
	printed := w.pod.Printed(t)
	for _, part := range []string{"table ip damask_router", "dnat to " + outsideIP + ":9090", "dnat to " + otherIP, "snat to " + sourceIP} {
		if !strings.Contains(printed, part) {
			t.Errorf("nft does not print %q:\n%s", part, printed)
		}
	}
	for range 2 { // Again, when all is gone.
		if err := egressrouter.Remove(context.Background(), w.pod.Path()); err != nil {
			t.Fatal(err)
		}
		if err := w.links.DeleteRouter(context.Background(), w.pod.Path(), egressrouter.Interface); err != nil {
			t.Fatal(err)
		}
	}
	if out := w.pod.Run(t, "ip", "-o", "link", "show"); strings.Contains(out, "macvlan0") {
		t.Errorf("the pod still has %s", out)
	}
	if out := w.pod.Run(t, "nft", "list", "ruleset"); out != "" {
		t.Errorf("the pod still has %s", out)
	}
	gone, stale := t.TempDir()+"/gone", t.TempDir()+"/stale"
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{gone, stale} {
		if err := egressrouter.Remove(context.Background(), path); err != nil {
			t.Errorf("of a namespace that is gone: %v", err)
		}
		if err := w.links.DeleteRouter(context.Background(), path, egressrouter.Interface); err != nil {
			t.Errorf("of a namespace that is gone: %v", err)
		}
	}
}

func TestAParentThatDoesNotSuitIsRefused(t *testing.T) {
	w := newWorld(t)
	r := w.router(spec(t, annotations(nil)))
	refused := func(want string) {
		t.Helper()
		_, err := w.links.EnsureRouter(context.Background(), r)
		if !errors.Is(err, link.ErrParent) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	r.Parent = "eth7"
	refused("the node has no eth7")
	r.Parent = "lo"
	refused("lo has no network with 192.0.2.99")
	r.Parent, r.Address = "under0", netip.MustParsePrefix("192.0.2.10/32")
	refused("192.0.2.10 is the node's own address")
	r.Address, r.Networks = netip.Prefix{}, []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	refused("under0 has no address of [198.51.100.0/24]")
	r.Networks = append(r.Networks, netip.MustParsePrefix("192.0.2.64/26"))
	if _, err := w.links.EnsureRouter(context.Background(), r); err != nil {
		t.Error(err)
	}
	if out := w.pod.Run(t, "ip", "-4", "-o", "address", "show", "dev", "macvlan0"); out != "" {
		t.Errorf("a pod that gives itself an address has %s", out)
	}
}

func TestAThousandDestinationsFit(t *testing.T) {
	w := newWorld(t)
	var lines []string
	for port := range 1000 {
		lines = append(lines, fmt.Sprintf("%d tcp %s", port+1, netip.MustParseAddr(outsideIP)))
	}
	s := spec(t, annotations(map[string]string{"egress-router.damask/EGRESS_DESTINATION": strings.Join(lines, "\n")}))
	w.ensure(t, s)
	if again := w.ensure(t, s); len(again) > 0 {
		t.Errorf("a second time %d things differ", len(again))
	}
}
