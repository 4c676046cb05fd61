package egress

import (
	"fmt"
	"testing"

	"github.com/damask-sdn/damask/internal/kubetest"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// standsFor says in an object, as its owner does, for which Node or Namespace it was made.
func standsFor(t *testing.T, cluster *kubetest.Cluster, object, name, of, annotation string) {
	t.Helper()
	uid := cluster.Kubectl(t, "get", of, name, "-o", "jsonpath={.metadata.uid}")
	patch(t, cluster, object, name, fmt.Sprintf(`{"metadata": {"annotations": {"pod.network.openshift.io/%s": %q}}}`, annotation, uid))
}

// wishes answers whose wishes and which offers there are.
func (s *system) wishes(t *testing.T) string {
	t.Helper()
	wanted, err := s.operator().ListNetNamespaceEgress(soonOnKubernetes(t), &egressv1.ListNetNamespaceEgressRequest{})
	if err != nil {
		t.Fatal(err)
	}
	offered, err := s.operator().ListHostSubnetEgress(soonOnKubernetes(t), &egressv1.ListHostSubnetEgressRequest{})
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, n := range wanted.GetNetNamespaceEgress() {
		text += fmt.Sprint(n.GetNamespace(), n.GetEgressIps())
	}
	for _, h := range offered.GetHostSubnetEgress() {
		text += fmt.Sprint(h.GetNode(), h.GetEgressIps())
	}
	return text
}

func (s *system) comesTo(t *testing.T, want string) {
	t.Helper()
	for ctx := soonOnKubernetes(t); s.wishes(t) != want; {
		if ctx.Err() != nil {
			t.Fatalf("the store has %q, want %q", s.wishes(t), want)
		}
	}
}

// TestOnKubernetesAnotherOfTheNameInheritsNoWish deletes a Namespace and a Node and makes
// others under their names, whose objects are new too.
func TestOnKubernetesAnotherOfTheNameInheritsNoWish(t *testing.T) {
	sys, cluster, f := onKubernetes(t, 1)
	standsFor(t, cluster, "netnamespace", "shop", "namespace", "namespace-uid")
	standsFor(t, cluster, "hostsubnet", "n1", "node", "node-uid")
	patch(t, cluster, "hostsubnet", "n1", `{"egressIPs": ["192.0.2.7"]}`)
	patch(t, cluster, "netnamespace", "shop", `{"egressIPs": ["192.0.2.7"]}`)
	f.until("n1", "192.0.2.7")
	shows(t, cluster, "netnamespace", "shop", egressIPs, "True: ")

	// Objects that were lost, of those that are there, get back what was wished.
	cluster.Kubectl(t, "delete", "netnamespace/shop", "hostsubnet/n1")
	renew := func() {
		t.Helper()
		cluster.Apply(t, fmt.Sprintf(newObjects, cluster.Kubectl(t, "get", "namespace", "shop", "-o", "jsonpath={.metadata.uid}"),
			cluster.Kubectl(t, "get", "node", "n1", "-o", "jsonpath={.metadata.uid}")))
	}
	renew()
	shows(t, cluster, "netnamespace", "shop", "{.egressIPs}", `["192.0.2.7"]`)
	shows(t, cluster, "hostsubnet", "n1", "{.egressIPs}", `["192.0.2.7"]`)
	shows(t, cluster, "netnamespace", "shop", egressIPs, "True: ")

	// Others of the names do not.
	cluster.DeleteNamespace(t, "shop")
	cluster.Kubectl(t, "create", "namespace", "shop")
	cluster.Kubectl(t, "delete", "netnamespace", "shop")
	cluster.Kubectl(t, "delete", "node/n1", "hostsubnet/n1")
	cluster.Apply(t, "{apiVersion: v1, kind: Node, metadata: {name: n1}}")
	renew()
	sys.comesTo(t, "")
	shows(t, cluster, "netnamespace", "shop", "{.egressIPs}", "")
	shows(t, cluster, "hostsubnet", "n1", "{.egressIPs}", "")
	f.until("n1")
	// What is wished for the new ones is theirs.
	patch(t, cluster, "hostsubnet", "n1", `{"egressIPs": ["192.0.2.8"]}`)
	patch(t, cluster, "netnamespace", "shop", `{"egressIPs": ["192.0.2.8"]}`)
	f.until("n1", "192.0.2.8")
}

const newObjects = `
apiVersion: network.openshift.io/v1
kind: NetNamespace
metadata: {name: shop, annotations: {pod.network.openshift.io/namespace-uid: %q}}
netname: shop
netid: 42
---
apiVersion: network.openshift.io/v1
kind: HostSubnet
metadata: {name: n1, annotations: {pod.network.openshift.io/node-uid: %q}}
host: n1
hostIP: 192.0.2.101
subnet: 10.128.2.0/23
`
