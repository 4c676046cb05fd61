package servicepath

import (
	"context"
	"fmt"
	"testing"

	"github.com/damask-sdn/damask/internal/policy"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
)

// restart ends what the node knows, and begins anew with what the world says. It wants
// that no flow changes.
func (n *node) restart(t testing.TB, w *world, mode tenancyv1.IsolationMode) {
	t.Helper()
	n.forget()
	n.think()
	n.learn(t, mode)
	for _, p := range w.pods {
		if p.node == n {
			n.state.AddPod(p.seen)
		}
	}
	for _, s := range n.seen {
		n.state.SetService(s)
	}
	n.told = nil
	w.tellTo(t, n, func(context.Context, intent.Change) error { return nil })
	var diff flowsync.Diff
	ctx := patience(t)
	for err := error(flowsync.ErrUnavailable); err != nil; {
		if diff, err = n.program.Reconcile(ctx); ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if !diff.Empty() {
		t.Errorf("%s has other flows after its restart: %+v", n.name, diff)
	}
}

func TestEstablishedConnectionsGoOnUntilTheyAreForbidden(t *testing.T) {
	nodes := newClusterIn(t, "nftables", networkPolicy)
	client := nodes[0].addPod(t, "shop", "client", 5)
	local, remote := nodes[0].addPod(t, "shop", "local", 6), nodes[1].addPod(t, "shop", "remote", 6)
	local.echo(t)
	remote.echo(t)
	w := newWorld(nodes, client, local, remote)
	w.tell(t)
	addService(t, nodes, "shop", "remote", "172.30.1.2", 80, remote.at(echoPort))
	both := []policy.Direction{policy.Ingress, policy.Egress}
	in := policy.Rule{Direction: policy.Ingress, Peers: only(client), Ports: port(echoPort)}
	allowed := func() {
		w.put(isolate("servers", both, in), local, remote)
		w.put(isolate("client", both, policy.Rule{Direction: policy.Egress, Peers: append(only(local), only(remote)...), Ports: port(echoPort)}), client)
	}
	allowed()
	w.tell(t)
	var near, far []*conversation
	for _, network := range []string{"tcp4", "udp4"} {
		near = append(near, client.begin(t, network, local.at(echoPort).String()))
		far = append(far, client.begin(t, network, remote.at(echoPort).String()), client.begin(t, network, "172.30.1.2:80"))
	}
	everybody := append(near[:len(near):len(near)], far...)

	t.Run("unrelated changes", func(t *testing.T) {
		for i := range 5 {
			p := isolate(fmt.Sprint("other", i), both, policy.Rule{Direction: policy.Ingress, Peers: block("10.130.0.0/16"), Ports: port(uint16(80 + i))})
			w.put(p, client, local, remote)
			w.tell(t)
			wantAlive(t, "a policy more", everybody...)
			if i > 2 {
				w.remove(p.Key)
				w.tell(t)
				wantAlive(t, "a policy less", everybody...)
			}
		}
	})
	t.Run("a restart", func(t *testing.T) {
		for _, n := range nodes {
			n.restart(t, w, networkPolicy)
			wantAlive(t, "an agent's restart", everybody...)
		}
	})
	t.Run("other modes", func(t *testing.T) {
		for _, mode := range []tenancyv1.IsolationMode{combined, multitenant, networkPolicy, subnetMode, combined, networkPolicy} {
			w.setMode(t, mode)
			wantAlive(t, "mode "+mode.String(), everybody...)
		}
	})
	t.Run("forbidden by the backend", func(t *testing.T) {
		w.put(isolate("servers", both, in), local)
		w.put(isolate("closed", both), remote)
		w.tell(t)
		wantCut(t, "forbidden", far...)
		wantAlive(t, "forbidden others", near...)
	})
	t.Run("allowed again", func(t *testing.T) {
		w.remove(policy.Key{Kind: "NetworkPolicy", Namespace: "shop", Name: "closed"})
		allowed()
		w.tell(t)
		wantAlive(t, "allowed again", everybody...)
	})
	t.Run("forbidden by the client", func(t *testing.T) {
		w.put(isolate("client", both, policy.Rule{Direction: policy.Egress, Peers: only(remote), AnyPort: true}), client)
		w.tell(t)
		wantCut(t, "forbidden", near...)
		wantAlive(t, "forbidden others", far...)
	})
}
