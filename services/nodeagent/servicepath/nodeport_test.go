package servicepath

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// expose gives all nodes a node port for a service that they have.
func expose(t *testing.T, nodes []*node, namespace, name string, nodePort uint16) {
	t.Helper()
	for _, n := range nodes {
		seen := intent.Service{Namespace: namespace, Name: name}
		for key, entry := range n.services {
			if key.Namespace != namespace || key.Name != name {
				continue
			}
			entry.NodePort = nodePort
			n.services[key] = entry
			protocol := pipeline.Protocol(key.Protocol)
			seen.ClusterIPs = entry.ClusterIPs
			seen.Ports = append(seen.Ports, pipeline.ServicePort{Protocol: protocol, Port: entry.Port})
			seen.NodePorts = append(seen.NodePorts, pipeline.ServicePort{Protocol: protocol, Port: nodePort})
		}
		if err := n.program.Program(patience(t), n.state.SetService(seen)); err != nil {
			t.Fatal(err)
		}
		n.sync(t)
	}
}

// host is the node's own programs, which ask as pods do.
func (n *node) host() *pod { return &pod{ns: n.ns} }

// outsider is a machine next to the node, which has the address 198.51.100.1 for it.
func outsider(t *testing.T, n *node) *pod {
	t.Helper()
	ns := netnstest.New(t, "outside")
	ns.Connect(t, "eth0", n.ns, "eth1")
	ns.Run(t, "sh", "-e", "-c", "ip address add 198.51.100.2/24 dev eth0; ip link set eth0 up")
	n.ns.Run(t, "sh", "-e", "-c", "ip address add 198.51.100.1/24 dev eth1; ip link set eth1 up")
	return &pod{ns: ns}
}

func TestTenantsStayApartAtNodePorts(t *testing.T) {
	for engine := range engines {
		t.Run(engine, func(t *testing.T) {
			nodes := newCluster(t, engine, true)
			own, global := nodes[0].addPod(t, "shop", "client", 5), nodes[0].addPod(t, "default", "client", 6)
			thief := nodes[0].addPod(t, "bank", "thief", 7)
			near, far := nodes[0].addPod(t, "shop", "near", 8), nodes[1].addPod(t, "shop", "far", 8)
			outside := outsider(t, nodes[1])
			near.serve(t)
			far.serve(t)
			addService(t, nodes, "shop", "near", "172.30.1.1", 80, near.backend())
			addService(t, nodes, "shop", "far", "172.30.1.2", 80, far.backend())
			expose(t, nodes, "shop", "near", 30081)
			expose(t, nodes, "shop", "far", 30082)

			// Behind node 1's addresses everybody is node 1.
			for port, backend := range map[string]string{"30081": "shop/near saw 10.129.0.1", "30082": "shop/far saw 10.129.0.1"} {
				for _, client := range []*pod{own, global, nodes[0].host()} {
					client.wantAnswer(t, "192.0.2.2:"+port, backend)
					client.wantAnswer(t, "10.129.0.1:"+port, backend)
				}
				outside.wantAnswer(t, "198.51.100.1:"+port, backend)
				t.Run("another node's address, "+port, func(t *testing.T) {
					nodes[0].wantDropped(t, 80, func() { thief.wantSilence(t, "192.0.2.2:"+port) })
				})
				t.Run("another node's gateway, "+port, func(t *testing.T) {
					nodes[1].wantDropped(t, 80, func() { thief.wantSilence(t, "10.129.0.1:"+port) })
				})
			}
			// At their own node they are themselves, and the backend's node decides.
			own.wantAnswer(t, "192.0.2.1:30082", "shop/far saw "+own.ip.String())
			nodes[1].wantDropped(t, 80, func() { thief.wantSilence(t, "192.0.2.1:30082") })
			nodes[0].wantDropped(t, 80, func() { thief.wantSilence(t, "10.128.0.1:30081") })
		})
	}
}

// TestANodeHearsAnswersAtANodePortsNumber: a node asks a pod of another node and tenant
// from a port that is a node port, as happens to masqueraded connections.
func TestANodeHearsAnswersAtANodePortsNumber(t *testing.T) {
	nodes := newCluster(t, "nftables", true)
	shop, bank := nodes[1].addPod(t, "shop", "web", 5), nodes[0].addPod(t, "bank", "web", 6)
	shop.serve(t)
	bank.serve(t)
	addService(t, nodes, "shop", "web", "172.30.1.1", 80, shop.backend())
	expose(t, nodes, "shop", "web", 30080)
	answered := func(n *node, gateway string) {
		t.Helper()
		var conn net.Conn
		var err error
		ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
		defer cancel()
		from := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(gateway + ":30080"))
		n.ns.Do(t, func() { conn, err = (&net.Dialer{LocalAddr: from}).DialContext(ctx, "udp4", bank.backend().String()) })
		if err != nil {
			t.Fatal(err)
		}
		ear := socket{conn.(*net.UDPConn)}
		defer ear.Close()
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if got := ear.next(t, answerLimit); got != bank.backend().String() {
			t.Errorf("%s asks at port 30080, and hears %q", n.ns.Name(), got)
		}
	}
	answered(nodes[1], "10.129.0.1")
	answered(nodes[0], "10.128.0.1")
	// And the pod's own question to that port is none of these answers.
	nodes[1].wantDropped(t, 80, func() { bank.wantSilence(t, "10.129.0.1:30080") })
}
