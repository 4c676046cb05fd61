package servicepath

import (
	"testing"

	"github.com/damask-sdn/damask/internal/policy"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

const (
	networkPolicy = tenancyv1.IsolationMode_ISOLATION_MODE_NETWORKPOLICY
	combined      = tenancyv1.IsolationMode_ISOLATION_MODE_COMBINED
	subnetMode    = tenancyv1.IsolationMode_ISOLATION_MODE_SUBNET
	multitenant   = tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT
)

func TestPoliciesJudgeWhoAsksAServiceAndItsBackend(t *testing.T) {
	for engine := range engines {
		t.Run(engine, func(t *testing.T) {
			nodes := newClusterIn(t, engine, networkPolicy)
			client := nodes[0].addPod(t, "shop", "client", 5)
			local, remote := nodes[0].addPod(t, "shop", "local", 6), nodes[1].addPod(t, "shop", "remote", 6)
			stranger := nodes[1].addPod(t, "bank", "stranger", 7)
			for _, p := range []*pod{client, local, remote, stranger} {
				p.serve(t)
			}
			w := newWorld(nodes, client, local, remote, stranger)
			w.tell(t)
			addService(t, nodes, "shop", "local", "172.30.1.1", 80, local.backend())
			addService(t, nodes, "shop", "remote", "172.30.1.2", 80, remote.backend())
			addService(t, nodes, "shop", "self", "172.30.1.3", 80, client.backend())
			sees := " saw " + client.ip.String()
			all := func(t *testing.T) {
				client.wantAnswer(t, "172.30.1.1:80", "shop/local"+sees)
				client.wantAnswer(t, "172.30.1.2:80", "shop/remote"+sees)
				client.wantAnswer(t, "172.30.1.3:80", "shop/client saw 10.128.0.1")
				client.wantAnswer(t, local.backend().String(), "shop/local"+sees)
				client.wantAnswer(t, remote.backend().String(), "shop/remote"+sees)
			}
			t.Run("no policy", all)
			both := []policy.Direction{policy.Ingress, policy.Egress}
			t.Run("backends let in the client, which may ask them, and nobody else", func(t *testing.T) {
				in := policy.Rule{Direction: policy.Ingress, Peers: only(client), Ports: port(backendPort)}
				w.put(isolate("backends", both, in), local, remote)
				w.put(isolate("client", both,
					policy.Rule{Direction: policy.Egress, Peers: append(only(local), only(remote)...), Ports: port(backendPort)}), client)
				w.tell(t)
				all(t)
				stranger.wantSilence(t, "172.30.1.1:80")
				stranger.wantSilence(t, "172.30.1.2:80")
				local.wantSilence(t, "172.30.1.2:80")
				local.wantSilence(t, client.backend().String())
			})
			t.Run("the client may ask one of them", func(t *testing.T) {
				w.put(isolate("client", both, policy.Rule{Direction: policy.Egress, Peers: only(local), AnyPort: true}), client)
				w.tell(t)
				client.wantAnswer(t, "172.30.1.1:80", "shop/local"+sees)
				client.wantSilence(t, "172.30.1.2:80")
				client.wantSilence(t, remote.backend().String())
			})
			t.Run("the service's address is not what is judged", func(t *testing.T) {
				w.put(isolate("client", both, policy.Rule{Direction: policy.Egress, Peers: block("172.30.0.0/16"), AnyPort: true}), client)
				w.tell(t)
				client.wantSilence(t, "172.30.1.1:80")
				client.wantSilence(t, "172.30.1.2:80")
			})
		})
	}
}

func TestTheNodeReachesItsPodsWhateverPoliciesSay(t *testing.T) {
	nodes := newClusterIn(t, "nftables", networkPolicy)
	p, far := nodes[0].addPod(t, "shop", "p", 5), nodes[1].addPod(t, "shop", "far", 5)
	p.serve(t)
	far.serve(t)
	w := newWorld(nodes, p, far)
	w.put(isolate("closed", []policy.Direction{policy.Ingress, policy.Egress}), p, far)
	w.tell(t)
	host := &pod{ns: nodes[0].ns}
	host.wantAnswer(t, p.backend().String(), "shop/p saw 10.128.0.1")
	host.wantSilence(t, far.backend().String())
	// By its address in the underlay, too.
	nodes[0].ns.Run(t, "ip", "route", "add", p.ip.String()+"/32", "dev", "tun0", "src", hosts[0].String())
	host.wantAnswer(t, p.backend().String(), "shop/p saw "+hosts[0].String())
	// The pod itself may not ask the node.
	p.wantSilence(t, "10.128.0.1:8080")
}
