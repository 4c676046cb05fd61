package attach_test

import (
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/damask-sdn/damask/internal/netnstest"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

const outsideIP = "192.0.2.1"

// underlay gives the node an interface to a host outside, which answers TCP with the
// address that it sees.
func (n *node) underlay(t *testing.T) {
	t.Helper()
	outside := netnstest.New(t, "outside")
	n.ns.Connect(t, "under0", outside, "eth0")
	n.ns.Run(t, "ip", "address", "add", "192.0.2.10/24", "dev", "under0")
	n.ns.Run(t, "ip", "link", "set", "under0", "up")
	outside.Run(t, "ip", "address", "add", outsideIP+"/24", "dev", "eth0")
	outside.Run(t, "ip", "link", "set", "eth0", "up")
	outside.Do(t, func() {
		listener, err := net.Listen("tcp4", outsideIP+":9090")
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
				_, _ = fmt.Fprint(conn, conn.RemoteAddr().(*net.TCPAddr).IP)
				_ = conn.Close()
			}
		}()
	})
}

// seenAs asks the host outside through a router, and answers as whom it was seen.
func (p *pod) seenAs(t *testing.T, router string) (seen string) {
	t.Helper()
	p.Do(t, func() {
		conn, err := net.DialTimeout("tcp4", router+":80", 10*time.Second)
		if err != nil {
			seen = err.Error()
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		answer, err := io.ReadAll(conn)
		if seen = string(answer); err != nil {
			seen = err.Error()
		}
	})
	return seen
}

func routerAnnotations(source string) map[string]string {
	return map[string]string{
		"pod.network.openshift.io/assign-macvlan": "true",
		"egress-router.damask/EGRESS_SOURCE":      source,
		"egress-router.damask/EGRESS_GATEWAY":     outsideIP,
		"egress-router.damask/EGRESS_DESTINATION": "80 tcp " + outsideIP + " 9090",
	}
}

// asRouter is what a runtime says of a pod with annotations; it says all of them.
func (p *pod) asRouter(annotations map[string]string) *libcni.RuntimeConf {
	conf := p.runtimeConf()
	all := maps.Clone(annotations)
	all["kubernetes.io/config.seen"] = "yesterday"
	conf.CapabilityArgs = map[string]any{"io.kubernetes.cri.pod-annotations": all}
	return conf
}

func TestAnEgressRouterLeavesByItsOwnAddress(t *testing.T) {
	plugins := buildPlugin(t)
	n := newNode(t)
	n.underlay(t)
	n.serveHere(t, nil)
	r := newRuntime(t, plugins, n.place.Socket, "1.1.0")
	router, client := newPod(t, "shop", "router"), newPod(t, "shop", "client")
	conf := router.asRouter(routerAnnotations("192.0.2.99"))
	ip := r.add(t, conf).IPs[0].Address.IP.String()
	r.add(t, client.runtimeConf())
	seen := func(when string) {
		t.Helper()
		if got := client.seenAs(t, ip); got != "192.0.2.99" {
			t.Errorf("%s the host outside saw %q, want 192.0.2.99", when, got)
		}
		if err := r.cni.CheckNetworkList(t.Context(), r.list, conf); err != nil {
			t.Errorf("%s: CHECK: %v", when, err)
		}
	}
	seen("after ADD")
	if stored := n.leases.List(); len(stored) != 2 {
		t.Errorf("there are leases %v", stored)
	}
	router.Run(t, "ip", "link", "delete", "macvlan0")
	router.Run(t, "nft", "delete", "table", "ip", "damask_router")
	expectCode(t, r.cni.CheckNetworkList(t.Context(), r.list, conf), 104, "macvlan0: is missing", "table damask_router is missing")
	r.add(t, conf)
	seen("after a second ADD")
	if err := r.cni.DelNetworkList(t.Context(), r.list, conf); err != nil {
		t.Fatal(err)
	}
	if left := router.Run(t, "ip", "-o", "link", "show") + router.Run(t, "nft", "list", "ruleset"); strings.Contains(left, "macvlan0") || strings.Contains(left, "damask_router") {
		t.Errorf("the router still has %s", left)
	}
}

func TestAnEgressRouterOutlivesTheAgent(t *testing.T) {
	t.Run("with its leases", func(t *testing.T) { outlives(t, func(*node) {}) })
	t.Run("without them", func(t *testing.T) {
		outlives(t, func(n *node) {
			if err := os.RemoveAll(n.place.Leases); err != nil {
				t.Fatal(err)
			}
		})
	})
}

func outlives(t *testing.T, lose func(*node)) {
	n := newNode(t)
	n.underlay(t)
	router, client := newPod(t, "shop", "router"), newPod(t, "shop", "client")
	request := router.request()
	request.Annotations = routerAnnotations("192.0.2.99")
	answer, err := n.server(nil).Add(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.server(nil).Add(t.Context(), client.request()); err != nil {
		t.Fatal(err)
	}
	before := router.Run(t, "ip", "-o", "address", "show") + router.Run(t, "nft", "-a", "list", "ruleset")
	lose(n)
	n.restart(t)
	n.restore(t)
	s := n.server(nil)
	if _, err := s.Check(t.Context(), &cniv1.CheckRequest{ContainerId: router.id, Netns: router.Path(), Ifname: "eth0", ExpectedIps: answer.GetAttachment().GetIps()}); err != nil {
		t.Errorf("CHECK after a restart: %v", err)
	}
	if after := router.Run(t, "ip", "-o", "address", "show") + router.Run(t, "nft", "-a", "list", "ruleset"); after != before {
		t.Errorf("before the restart:\n%s\nafter it:\n%s", before, after)
	}
	address, _, _ := strings.Cut(answer.GetAttachment().GetIps()[0], "/")
	if got := client.seenAs(t, address); got != "192.0.2.99" {
		t.Errorf("after a restart the host outside saw %q", got)
	}
	if _, err := s.Delete(t.Context(), router.deletion()); err != nil {
		t.Fatal(err)
	}
	if left := router.Run(t, "ip", "-o", "link", "show"); strings.Contains(left, "macvlan0") {
		t.Errorf("after DEL by another agent the router still has %s", left)
	}
}

func TestAnEgressRouterThatMayNotBeIsRefused(t *testing.T) {
	plugins := buildPlugin(t)
	n := newNode(t)
	n.underlay(t)
	n.serveHere(t, nil)
	r := newRuntime(t, plugins, n.place.Socket, "1.1.0")
	r.add(t, newPod(t, "shop", "first").asRouter(routerAnnotations("192.0.2.99")))
	for name, c := range map[string]struct {
		namespace   string
		annotations map[string]string
		code        uint
		says        []string
	}{
		"in a namespace that may have none":   {"bank", routerAnnotations("192.0.2.98"), types.ErrInvalidNetworkConfig, []string{"namespace bank may have no egress routers", "damask egress-router allow bank"}},
		"with an address that is not allowed": {"shop", routerAnnotations("192.0.2.5"), types.ErrInvalidNetworkConfig, []string{"addresses of [192.0.2.96/28], 192.0.2.5 is none of them"}},
		"with another's address":              {"shop", routerAnnotations("192.0.2.99"), 103, []string{"192.0.2.99 is the address of egress router shop/first"}},
		"with annotations that are wrong": {"shop", map[string]string{"pod.network.openshift.io/assign-macvlan": "true", "egress-router.damask/EGRESS_SOURCE": "x"},
			types.ErrInvalidNetworkConfig, []string{`EGRESS_SOURCE: "x"`, "EGRESS_GATEWAY", "at least one destination"}},
		"on an interface of the pod network": {"shop", func() map[string]string {
			a := routerAnnotations("192.0.2.98")
			a["pod.network.openshift.io/assign-macvlan"] = "tun0"
			return a
		}(), types.ErrInvalidNetworkConfig, []string{"tun0 has no network with 192.0.2.98"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t, c.namespace, "late")
			_, err := r.cni.AddNetworkList(t.Context(), r.list, p.asRouter(c.annotations))
			expectCode(t, err, c.code, c.says...)
			if left := p.Run(t, "ip", "-o", "link", "show"); strings.Contains(left, "macvlan0") || strings.Contains(left, "eth0") {
				t.Errorf("the pod has %s", left)
			}
			if all := n.leases.List(); len(all) != 1 {
				t.Errorf("there are leases %v", all)
			}
		})
	}
}
