package servicepath

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// dropped counts the packets that a table's last flow has dropped.
func (n *node) dropped(t *testing.T, table int) int {
	t.Helper()
	flows := n.sw.Ofctl(t, "dump-flows", "br0", fmt.Sprintf("table=%d", table))
	found := regexp.MustCompile(`n_packets=(\d+), n_bytes=\d+, (?:idle_age=\d+, )?priority=0 actions=drop`).FindStringSubmatch(flows)
	if found == nil {
		t.Fatalf("table %d has no last flow that drops:\n%s", table, flows)
	}
	count, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// wantDropped wants that a table of the node drops packets while something happens.
func (n *node) wantDropped(t *testing.T, table int, happens func()) {
	t.Helper()
	before := n.dropped(t, table)
	happens()
	if n.dropped(t, table) == before {
		t.Errorf("table %d of %s dropped nothing", table, n.ns.Name())
	}
}

// redirects counts the ICMP redirects that the node has made.
func (n *node) redirects(t *testing.T) string {
	t.Helper()
	var names, values []string
	for _, line := range strings.Split(n.ns.Run(t, "cat", "/proc/net/snmp"), "\n") {
		if strings.HasPrefix(line, "Icmp:") {
			names, values = values, strings.Fields(line)
		}
	}
	for i, name := range names {
		if name == "OutRedirects" {
			return values[i]
		}
	}
	t.Fatal("the kernel counts no redirects")
	return ""
}

func TestPodsReachBackendsThroughServices(t *testing.T) {
	for engine := range engines {
		for _, mode := range []string{"subnet", "multitenant"} {
			t.Run(engine+"/"+mode, func(t *testing.T) {
				nodes := newCluster(t, engine, mode == "multitenant")
				client := nodes[0].addPod(t, "shop", "client", 5)
				local, remote := nodes[0].addPod(t, "shop", "local", 6), nodes[1].addPod(t, "shop", "remote", 6)
				global := nodes[1].addPod(t, "default", "dns", 7)
				for _, p := range []*pod{client, local, remote, global} {
					p.serve(t)
				}
				addService(t, nodes, "shop", "local", "172.30.1.1", 80, local.backend())
				addService(t, nodes, "shop", "remote", "172.30.1.2", 80, remote.backend())
				addService(t, nodes, "shop", "self", "172.30.1.3", 80, client.backend())
				addService(t, nodes, "default", "dns", "172.30.0.10", 53, global.backend())

				sees := " saw " + client.ip.String()
				client.wantAnswer(t, "172.30.1.1:80", "shop/local"+sees)
				client.wantAnswer(t, "172.30.1.2:80", "shop/remote"+sees)
				client.wantAnswer(t, "172.30.0.10:53", "default/dns"+sees)
				// To itself: it could not answer itself, so the node stands between.
				client.wantAnswer(t, "172.30.1.3:80", "shop/client saw 10.128.0.1")
				// The other way round, and without a service.
				global.wantAnswer(t, "172.30.1.1:80", "shop/local saw "+global.ip.String())
				client.wantAnswer(t, local.backend().String(), "shop/local"+sees)
				client.wantAnswer(t, remote.backend().String(), "shop/remote"+sees)
				if got := nodes[0].redirects(t); got != "0" {
					t.Errorf("the node told pods %s times to go another way", got)
				}
			})
		}
	}
}

func TestTenantsStayApartBehindServices(t *testing.T) {
	for engine := range engines {
		t.Run(engine, func(t *testing.T) {
			nodes := newCluster(t, engine, true)
			client, own := nodes[0].addPod(t, "shop", "client", 5), nodes[0].addPod(t, "shop", "own", 6)
			other, far := nodes[0].addPod(t, "bank", "other", 7), nodes[1].addPod(t, "bank", "far", 8)
			thief := nodes[0].addPod(t, "bank", "thief", 9)
			for _, p := range []*pod{own, other, far} {
				p.serve(t)
			}
			addService(t, nodes, "shop", "web", "172.30.1.1", 80, own.backend())
			addService(t, nodes, "bank", "web", "172.30.2.1", 80, far.backend())
			addService(t, nodes, "shop", "stolen", "172.30.1.2", 80, other.backend())
			addService(t, nodes, "shop", "stolen-far", "172.30.1.3", 80, far.backend())
			client.wantAnswer(t, "172.30.1.1:80", "shop/own saw "+client.ip.String())
			other.wantAnswer(t, "172.30.2.1:80", "bank/far saw "+other.ip.String())

			t.Run("another tenant's service", func(t *testing.T) {
				nodes[0].wantDropped(t, 80, func() { client.wantSilence(t, "172.30.2.1:80") })
			})
			t.Run("a port that the service does not have", func(t *testing.T) {
				nodes[0].wantDropped(t, 60, func() { client.wantSilence(t, "172.30.1.1:81") })
			})
			t.Run("another tenant's backend on this node", func(t *testing.T) {
				nodes[0].wantDropped(t, 80, func() { client.wantSilence(t, "172.30.1.2:80") })
			})
			t.Run("another tenant's backend on another node", func(t *testing.T) {
				nodes[1].wantDropped(t, 80, func() { client.wantSilence(t, "172.30.1.3:80") })
			})
			t.Run("an answer from another tenant", func(t *testing.T) {
				unasked(t, nodes[0], client, own, other, far, thief)
			})
		})
	}
}

// unasked lets backends of another tenant answer a client that has asked them by way of
// a service of its own. They never got the question, but know whence it came.
func unasked(t *testing.T, n *node, client, own, other, far, thief *pod) {
	const port = 7777
	ear := client.bind(t, netip.AddrPortFrom(client.ip, port))
	for _, service := range []string{"172.30.1.1:80", "172.30.1.2:80", "172.30.1.3:80"} {
		ear.send(t, service)
	}
	if got := ear.next(t, answerLimit); got != "172.30.1.1:80" {
		t.Fatalf("the client's own backend answers from %q", got)
	}
	to := netip.AddrPortFrom(client.ip, port).String()
	n.wantDropped(t, 80, func() { other.server.send(t, to); ear.wantNothing(t) })
	n.wantDropped(t, 80, func() { far.server.send(t, to); ear.wantNothing(t) })
	// Nor in the name of the backend that has answered.
	thief.ns.Run(t, "ip", "address", "add", own.ip.String()+"/32", "dev", "lo")
	mouth := thief.bind(t, own.backend())
	n.wantDropped(t, 20, func() { mouth.send(t, to); ear.wantNothing(t) })
}
