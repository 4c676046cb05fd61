package lab

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestOnKubernetesObjectsDecideWhatPasses has a cluster with each kind of object that says
// where packets may go, written with kubectl.
func TestOnKubernetesObjectsDecideWhatPasses(t *testing.T) {
	k := upOnKubernetes(t, 3, "{nats: 1}")
	for _, namespace := range []string{"a", "b"} {
		k.kubectl("create", "namespace", namespace)
		k.netid(namespace)
	}
	k.aPod("a/client", "node1", "app: client")
	k.aPod("a/web", "node2", "app: web")
	k.aPod("b/client", "node3", "app: client")
	k.start(onOutside(""), "serve", leavePort, "outside")
	t.Run("Services lead to EndpointSlices", func(t *testing.T) { k.in(t).wantService() })
	t.Run("egress IPs", func(t *testing.T) { k.in(t).wantEgressIP() })
	t.Run("EgressNetworkPolicies", func(t *testing.T) { k.in(t).wantEgressNetworkPolicy() })
	t.Run("NetworkPolicies", func(t *testing.T) { k.in(t).wantNetworkPolicy() })
}

// wantService has a Service and what the EndpointSlice controller of a whole cluster would
// make of its pods.
func (k *onKubernetes) wantService() {
	begin := time.Now()
	k.api.Apply(k.t, fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {namespace: a, name: web}
spec: {type: NodePort, ports: [{port: 80, targetPort: %[1]s}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: a, name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: %[1]s, protocol: TCP}]
endpoints: [{addresses: [%[2]s], nodeName: node2, conditions: {ready: true}, targetRef: {kind: Pod, namespace: a, name: web}}]
`, port, k.pods["a/web"].ip))
	clusterIP := k.kubectl("get", "service", "--namespace=a", "web", "-o", "jsonpath={.spec.clusterIP}")
	k.becomesAt(begin, "from a Service to a packet", "a/client", clusterIP+":80", "a/web")
	if who := k.answered("b/client", clusterIP+":80", quietFor); who != "" {
		k.t.Errorf("another tenant's request to the service is answered by %s", who)
	}
	nodePort := k.kubectl("get", "service", "--namespace=a", "web", "-o", "jsonpath={.spec.ports[0].nodePort}")
	k.eventually(k.t, "the node port leads to the pod", func() bool {
		r := k.check(onOutside(""), "tcp "+k.nodeIP("node3")+":"+nodePort+" 100")[0]
		return r.OK && r.Server == "a/web"
	})
	begin = time.Now()
	k.kubectl("patch", "endpointslice", "--namespace=a", "web-1", "--type=merge", "-p", `{"endpoints": []}`)
	k.becomesAt(begin, "from an empty EndpointSlice to no answer", "a/client", clusterIP+":80", "")
	k.kubectl("delete", "service", "--namespace=a", "web")
}

// seen answers by which address a pod is seen outside; empty when it does not get there.
func (k *onKubernetes) seen(from string) string {
	k.t.Helper()
	return k.check(inPod(from), "tcp "+k.outsideIP("outside")+":"+leavePort+" 100")[0].Source
}

// leaves waits until a pod is seen outside by an address; empty: until it is not.
func (k *onKubernetes) leaves(begin time.Time, what, from, by string) {
	k.t.Helper()
	k.eventually(k.t, fmt.Sprintf("%s: %s leaves by %q", what, from, by), func() bool { return k.seen(from) == by })
	k.t.Logf("%s: %s after kubectl began", what, since(begin))
}

// wantEgressIP types what is in observed/node.yaml.
func (k *onKubernetes) wantEgressIP() {
	const ip = "192.168.108.200"
	k.leaves(time.Now(), "without an egress IP", "a/client", k.nodeIP("node1"))
	if out, err := k.api.TryKubectl("patch", "hostsubnet", "node3", "-p", `{"egressIPs": ["`+ip+`"]}`); err == nil || !strings.Contains(err.Error(), "unknown format") {
		k.t.Errorf("docs/operating.md says that kubectl patch needs --type=merge; without it came %s, %v", out, err)
	}
	begin := time.Now()
	k.kubectl("patch", "hostsubnet", "node3", "--type=merge", "-p", `{"egressIPs": ["`+ip+`"]}`)
	k.kubectl("patch", "netnamespace", "a", "--type=merge", "-p", `{"egressIPs": ["`+ip+`"]}`)
	k.leaves(begin, "from two patches to a packet by the egress IP", "a/client", ip)
	k.wait("", "netnamespace/a", "condition=EgressIPs")
	k.wantTable("netnamespaces", []string{"a", k.field("netnamespace/a", ".netid"), `["` + ip + `"]`})
	k.leaves(time.Now(), "another namespace", "b/client", k.nodeIP("node3"))

	begin = time.Now()
	k.kubectl("patch", "hostsubnet", "node3", "--type=merge", "-p", `{"egressIPs": []}`)
	k.leaves(begin, "from a node that hosts it no more to silence", "a/client", "")
	k.wait("", "netnamespace/a", "condition=EgressIPs=false")
	begin = time.Now()
	k.kubectl("patch", "netnamespace", "a", "--type=merge", "-p", `{"egressIPs": []}`)
	k.leaves(begin, "from a namespace without egress IPs to a packet by its node", "a/client", k.nodeIP("node1"))
}

func (k *onKubernetes) wantEgressNetworkPolicy() {
	outside := k.outsideIP("outside")
	policy := func(rules string) time.Time {
		begin := time.Now()
		k.api.Apply(k.t, `{apiVersion: network.openshift.io/v1, kind: EgressNetworkPolicy, metadata: {namespace: a, name: default}, spec: {egress: [`+rules+`]}}`)
		return begin
	}
	deny := `{type: Deny, to: {cidrSelector: ` + outside + `/32}}`
	k.leaves(policy(deny), "from an EgressNetworkPolicy to silence", "a/client", "")
	k.wait("a", "egressnetworkpolicy/default", "condition=Accepted")
	k.leaves(time.Now(), "another namespace", "b/client", k.nodeIP("node3"))
	k.leaves(policy(`{type: Allow, to: {cidrSelector: `+outside+`/32}}, `+deny), "from a rule that allows to a packet", "a/client", k.nodeIP("node1"))
	k.leaves(policy(deny), "denied again", "a/client", "")
	begin := time.Now()
	k.kubectl("delete", "egressnetworkpolicy", "--namespace=a", "default")
	k.leaves(begin, "from an EgressNetworkPolicy that is deleted to a packet", "a/client", k.nodeIP("node1"))
}

// wantNetworkPolicy changes the isolation mode of the running cluster as an administrator of
// the ancestor could not, and then who may speak.
func (k *onKubernetes) wantNetworkPolicy() {
	if k.reached("b/client", "a/web", quietFor) {
		k.t.Error("tenants reach one another")
	}
	begin := time.Now()
	k.kubectl("patch", "clusternetwork", "default", "--type=merge", "-p", `{"pluginName": "redhat/openshift-ovs-networkpolicy"}`)
	k.becomes(begin, "from another pluginName to a packet", "b/client", "a/web", true)
	k.wait("", "clusternetwork/default", "condition=IsolationMode")

	begin = time.Now()
	k.api.Apply(k.t, `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: a, name: clients}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: web}]}]
`)
	k.becomes(begin, "from a NetworkPolicy to silence", "b/client", "a/web", false)
	if !k.reached("a/client", "a/web", mayTake) {
		k.t.Error("whom the policy allows is not answered")
	}
	begin = time.Now()
	k.kubectl("label", "pod", "--namespace=a", "client", "--overwrite", "app=other")
	k.becomes(begin, "from a Pod's label to silence", "a/client", "a/web", false)
	begin = time.Now()
	k.kubectl("label", "pod", "--namespace=a", "client", "--overwrite", "app=client")
	k.becomes(begin, "from a Pod's label to a packet", "a/client", "a/web", true)
	begin = time.Now()
	k.kubectl("delete", "networkpolicy", "--namespace=a", "clients")
	k.becomes(begin, "from a NetworkPolicy that is deleted to a packet", "b/client", "a/web", true)
}
