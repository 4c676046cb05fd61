package servicelb

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/kubetest"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// follower is the configuration of a replica that follows a cluster through a gate.
func follower(t *testing.T, cluster *kubetest.Cluster, gate *kubetest.Gate) Config {
	t.Helper()
	return Config{LoadBalancerIPs: []string{"192.0.2.1/32"}, Kubernetes: kube.Config{Enabled: true, Kubeconfig: gate.Kubeconfig(t, cluster.AsServiceAccount(t, rights))}}
}

// deployed makes a Service of type LoadBalancer with a slice that has one endpoint.
func deployed(t *testing.T, cluster *kubetest.Cluster, name, endpoint string) {
	t.Helper()
	cluster.Apply(t, strings.NewReplacer("web", name, "10.128.2.4", endpoint).Replace(loadBalancer))
}

// described answers, in order, what the store has of a namespace: services with their
// load-balancer addresses, and slices with their endpoints.
func (c client) described(ctx context.Context) (all []string, err error) {
	services, err := c.ListServices(ctx, &servicelbv1.ListServicesRequest{Namespaces: []string{"shop"}})
	if err != nil {
		return nil, err
	}
	list, err := c.ListEndpointSlices(ctx, &servicelbv1.ListEndpointSlicesRequest{Namespaces: []string{"shop"}})
	for _, s := range services.GetServices() {
		all = append(all, fmt.Sprintf("%s by %v", s.GetName(), s.GetLoadBalancerIps()))
	}
	for _, s := range list.GetEndpointSlices() {
		for _, e := range s.GetEndpoints() {
			all = append(all, fmt.Sprintf("%s to %v", s.GetServiceName(), e.GetAddresses()))
		}
	}
	slices.Sort(all)
	return all, err
}

// comesTo waits until the store has exactly that.
func (c client) comesTo(t *testing.T, want ...string) {
	t.Helper()
	began := time.Now()
	for ctx := soonOnKubernetes(t); ; {
		all, err := c.described(ctx)
		if err == nil && slices.Equal(all, want) {
			t.Logf("%q after %v", want, time.Since(began).Round(time.Millisecond))
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the store has %q, want %q: %v", all, want, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func soonOnKubernetes(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestOnKubernetesWhatHappenedWhileTheAPIServerWasAwayForLong cuts the service off while
// pods move, for so long that the API server does not know any more what happened since.
func TestOnKubernetesWhatHappenedWhileTheAPIServerWasAwayForLong(t *testing.T) {
	cluster := kubetest.Start(t)
	cluster.Kubectl(t, "create", "namespace", "shop")
	gate := cluster.NewGate(t)
	sys := start(t, follower(t, cluster, gate))
	deployed(t, cluster, "goes", "10.128.2.3")
	sys.operator().comesTo(t, "goes by [192.0.2.1]", "goes to [10.128.2.3]")
	deployed(t, cluster, "moves", "10.128.2.4") // There is no address left for it.
	sys.operator().comesTo(t, "goes by [192.0.2.1]", "goes to [10.128.2.3]", "moves to [10.128.2.4]")
	before, err := sys.operator().described(soonOnKubernetes(t))
	if err != nil {
		t.Fatal(err)
	}

	gate.Shut()
	deployed(t, cluster, "moves", "10.128.4.9")
	cluster.Kubectl(t, "delete", "service/goes", "endpointslice/goes-x", "-n", "shop")
	cluster.Apply(t, `
apiVersion: v1
kind: Service
metadata: {name: comes, namespace: shop}
spec: {selector: {app: comes}, ports: [{port: 80}]}
`)
	cluster.ForgetHistory(t)
	// Who asks is answered with what was known.
	if now, err := sys.operator().described(soonOnKubernetes(t)); err != nil || !slices.Equal(now, before) {
		t.Errorf("while the API server was away the store has %q, before %q: %v", now, before, err)
	}

	gate.Open(t)
	sys.operator().comesTo(t, "comes by []", "moves by [192.0.2.1]", "moves to [10.128.4.9]")
	shown := func() string {
		return cluster.Kubectl(t, "get", "service", "moves", "-n", "shop", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
	}
	for ctx := soonOnKubernetes(t); shown() != "192.0.2.1"; {
		if ctx.Err() != nil {
			t.Fatalf("the object shows %q", shown())
		}
	}
}

// TestOnKubernetesTheOtherReplicaGoesOnWhenTheLeaderIsKilled kills (SIGKILL) the process that
// follows objects.
func TestOnKubernetesTheOtherReplicaGoesOnWhenTheLeaderIsKilled(t *testing.T) {
	cluster := kubetest.Start(t)
	cluster.Kubectl(t, "create", "namespace", "shop")
	sys := newSystem(t)
	cfg := follower(t, cluster, cluster.NewGate(t))
	tls := sys.ca.Files(t, identitytest.Service(t, serviceName))
	leader, first := startProcess(t, 1, tls, sys.store.URL(), cfg)
	deployed(t, cluster, "web", "10.128.2.4")
	sys.as(identity.Operator("ann"), first).comesTo(t, "web by [192.0.2.1]", "web to [10.128.2.4]")
	next, second := startProcess(t, 2, tls, sys.store.URL(), cfg)
	other := sys.as(identity.Operator("ann"), second)
	other.comesTo(t, "web by [192.0.2.1]", "web to [10.128.2.4]")

	leader.Kill()
	deployed(t, cluster, "web", "10.128.4.9")
	other.comesTo(t, "web by [192.0.2.1]", "web to [10.128.4.9]")
	cluster.Kubectl(t, "delete", "service/web", "endpointslice/web-x", "-n", "shop")
	other.comesTo(t)

	// The one that comes back goes on when the other is killed.
	leader.Restart()
	next.Kill()
	deployed(t, cluster, "next", "10.128.2.4")
	sys.as(identity.Operator("ann"), first).comesTo(t, "next by [192.0.2.1]", "next to [10.128.2.4]")
}
