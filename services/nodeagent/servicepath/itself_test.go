package servicepath

import (
	"net/netip"
	"testing"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// keepClients gives a service that has a node port the external policy Local.
func keepClients(t *testing.T, nodes []*node, namespace, name string) {
	t.Helper()
	for i, n := range nodes {
		for key, entry := range n.services {
			if key.Namespace != namespace || key.Name != name {
				continue
			}
			entry.ExternalLocal, entry.ExternalBackends, entry.OwnBackends = true, nil, nil
			for _, b := range entry.ClusterBackends {
				if b.Local {
					entry.ExternalBackends = append(entry.ExternalBackends, b)
				} else {
					b = proxy.Backend{Addr: hosts[1-i], Port: entry.NodePort}
				}
				entry.OwnBackends = append(entry.OwnBackends, b)
			}
			n.services[key] = entry
		}
		n.sync(t)
	}
}

// TestANodeIsSeenAtItsOwnNodePort: a program of a node asks the node's own node port, the
// policy is Local and the pod elsewhere. The pod sees the node, as it sees other clients.
func TestANodeIsSeenAtItsOwnNodePort(t *testing.T) {
	for name, mode := range map[string]tenancyv1.IsolationMode{
		"subnet": tenancyv1.IsolationMode_ISOLATION_MODE_SUBNET, "multitenant": tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT, "networkpolicy": networkPolicy,
	} {
		for engine := range engines {
			t.Run(name+"/"+engine, func(t *testing.T) {
				nodes := newClusterIn(t, engine, mode)
				client, far := nodes[0].addPod(t, "shop", "client", 5), nodes[1].addPod(t, "shop", "far", 6)
				newWorld(nodes, client, far).tell(t)
				far.serve(t)
				addService(t, nodes, "shop", "far", "172.30.1.1", 80, far.backend())
				expose(t, nodes, "shop", "far", 30082)
				own := netip.AddrPortFrom(hosts[0], 30082).String()
				nodes[0].host().wantAnswer(t, own, "shop/far saw 10.128.0.1") // As through the tunnel.
				keepClients(t, nodes, "shop", "far")
				nodes[0].host().wantAnswer(t, own, "shop/far saw "+hosts[0].String())
				// By the other addresses of the node too, which it does not leave by.
				nodes[0].host().wantAnswer(t, "10.128.0.1:30082", "shop/far saw 10.128.0.1")
				nodes[0].host().wantAnswer(t, "172.30.1.1:80", "shop/far saw 10.128.0.1")
				nodes[1].host().wantAnswer(t, netip.AddrPortFrom(hosts[1], 30082).String(), "shop/far saw 10.129.0.1")
				// Pods are themselves, as before.
				client.wantAnswer(t, own, "shop/far saw "+client.ip.String())
			})
		}
	}
}
