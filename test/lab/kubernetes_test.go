package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/kubetest"
	"k8s.io/apimachinery/pkg/types"
)

// Tests whose names have OnKubernetes in them are run by `make test-kubernetes`: they need
// an API server, which is not built for `make test`.

// theNetwork is the address plan and the mode of these labs.
const theNetwork = `
apiVersion: network.openshift.io/v1
kind: ClusterNetwork
metadata: {name: default}
network: 10.128.0.0/14
hostsubnetlength: 9
serviceNetwork: 172.30.0.0/16
clusterNetworks: [{CIDR: 10.128.0.0/14, hostSubnetLength: 9}]
pluginName: redhat/openshift-ovs-multitenant
`

// rights is what services and agents may do in a cluster.
const rights = "../../deploy/kustomize/base/"

// onKubernetes is a lab whose cluster is what an API server's objects say.
type onKubernetes struct {
	*cluster
	api   *kubetest.Cluster
	nodes map[string]*standIn
	pods  map[string]*resident // what runs in pods, by NAMESPACE/NAME
}

// upOnKubernetes starts an API server and a lab with that many nodes, node1 and up.
func upOnKubernetes(t *testing.T, nodes int, replicas string) *onKubernetes {
	t.Helper()
	return upOnKubernetesOf(t, theNetwork, nodes, replicas)
}

// upOnKubernetesOf is upOnKubernetes with another address plan and mode, and nodes that begin
// without an agent.
func upOnKubernetesOf(t *testing.T, network string, nodes int, replicas string, without ...string) *onKubernetes {
	t.Helper()
	k := &onKubernetes{api: kubetest.Start(t), nodes: map[string]*standIn{}, pods: map[string]*resident{}}
	k.api.InstallCRDs(t, "../../deploy/crds")
	k.api.Apply(t, network)
	topology := "replicas: " + replicas + "\nkubernetes:\n  services:\n"
	for _, service := range []string{"ipam", "tenancy", "servicelb", "egress"} {
		user := k.api.AsServiceAccount(t, rights+"rbac/"+service+".yaml")
		topology += fmt.Sprintf("    %s: %s\n", service, user.Kubeconfig())
	}
	k.api.ApplyFiles(t, rights+"rbac/nodeagent.yaml", rights+"nodeagent-own-node.yaml")
	topology += "nodes:\n"
	for i := range nodes {
		name, ip := fmt.Sprintf("node%d", i+1), fmt.Sprintf("192.168.108.%d", 11+i)
		k.nodes[name] = newStandIn(t, k.api, name, ip)
		agent := k.api.WithToken(t, "damask-system", "damask-nodeagent", name)
		topology += fmt.Sprintf("- {name: %s, ip: %s, kubeconfig: %s, withoutAgent: %t}\n", name, ip, agent.Kubeconfig(), slices.Contains(without, name))
	}
	begin := time.Now()
	k.cluster = up(t, topology)
	t.Logf("the lab was up after %s", since(begin))
	t.Cleanup(func() { k.showLogs(t) })
	for _, node := range k.nodes {
		node.run(t, k.cluster)
	}
	return k
}

func since(begin time.Time) time.Duration { return time.Since(begin).Round(time.Millisecond) }

// logTail is how many bytes of each service's log are shown when a test fails.
const logTail = 4000

func (k *onKubernetes) showLogs(t *testing.T) {
	if !t.Failed() {
		return
	}
	for _, log := range []string{"ipam-1", "tenancy-1", "servicelb-1", "egress-1", "node1.nodeagent", "supervisor"} {
		text, err := os.ReadFile(filepath.Join("/var/lib/damask-lab", k.name, "logs", log+".log"))
		t.Logf("end of the log of %s (%v):\n%s", log, err, text[max(0, len(text)-logTail):])
	}
}

// in answers the same lab for a part of a test.
func (k *onKubernetes) in(t *testing.T) *onKubernetes {
	part := *k
	part.cluster = k.cluster.in(t)
	return &part
}

// kubectl is what an administrator types.
func (k *onKubernetes) kubectl(args ...string) string {
	k.t.Helper()
	return k.api.Kubectl(k.t, args...)
}

// wait waits for an object, and until it is as kubectl's words say.
func (k *onKubernetes) wait(namespace, object string, until ...string) {
	k.t.Helper()
	for _, u := range append([]string{"create"}, until...) {
		k.kubectl("wait", "--namespace="+namespace, object, "--for="+u, "--timeout=60s")
	}
}

// field answers a field of an object.
func (k *onKubernetes) field(object, path string) string {
	k.t.Helper()
	return k.kubectl("get", object, "-o", "jsonpath={"+path+"}")
}

// aPod makes a Pod on a node, and returns when what runs in it listens.
func (k *onKubernetes) aPod(name, node string, labels ...string) {
	k.t.Helper()
	namespace, short, _ := strings.Cut(name, "/")
	begin := time.Now()
	k.api.Apply(k.t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {namespace: %s, name: %s, labels: {%s}}
spec: {nodeName: %s, containers: [{name: probe, image: none, ports: [{name: web, containerPort: %s}]}]}
`, namespace, short, strings.Join(labels, ", "), node, port))
	k.wait(namespace, "pod/"+short, "condition=Ready")
	ready := since(begin)
	k.pods[name] = k.reside(inPod(name), name, k.kubectl("get", "pod", "--namespace="+namespace, short, "-o", "jsonpath={.status.podIP}"))
	k.t.Logf("pod %s on %s: Ready %s after kubectl apply began", name, node, ready)
}

// reached tells whether a pod gets an answer of another within a time, and returns as soon as it does.
func (k *onKubernetes) reached(from, to string, quiet time.Duration) bool {
	k.t.Helper()
	return k.answered(from, k.pods[to].ip+":"+port, quiet) == to
}

// answered answers which pod answers at an address.
func (k *onKubernetes) answered(from, address string, quiet time.Duration) string {
	k.t.Helper()
	names, err := k.pods[from].ask(quiet.String(), []string{"tcp", address})
	if err != nil {
		k.t.Fatal(err)
	}
	return names[0]
}

const (
	// mayTake is how long what shall come may take. It only matters when it does not.
	mayTake = 40 * time.Second
	// glance is how long an answer is waited for before it is asked for again: the
	// kernel would ask again after a second.
	glance = 100 * time.Millisecond
	// quietFor is how long nothing must come where nothing may.
	quietFor = 1500 * time.Millisecond
)

// becomes waits until pods reach one another, or do not any more, and logs how long after
// begin that was.
func (k *onKubernetes) becomes(begin time.Time, what, from, to string, want bool) {
	k.t.Helper()
	k.becomesAt(begin, what, from, k.pods[to].ip+":"+port, map[bool]string{true: to}[want])
}

// becomesAt waits until that pod answers at an address; "" is nobody.
func (k *onKubernetes) becomesAt(begin time.Time, what, from, address, want string) {
	k.t.Helper()
	wait := glance
	if want == "" {
		wait = 3 * glance
	}
	for got := k.answered(from, address, wait); got != want; got = k.answered(from, address, wait) {
		if time.Since(begin) > mayTake {
			k.t.Fatalf("%s: %s to %s is answered by %q, want %q", what, from, address, got, want)
		}
	}
	k.t.Logf("%s: %s after kubectl began", what, since(begin))
	if want == "" && k.answered(from, address, quietFor) != "" {
		k.t.Errorf("%s: %s to %s is answered again", what, from, address)
	}
}

// wantPairs tries every pair of pods as their VNIDs say.
func (k *onKubernetes) wantPairs(vnid map[string]int) {
	k.t.Helper()
	for from := range k.pods {
		var pairs, to []string
		for other, p := range k.pods {
			if other != from {
				pairs, to = append(pairs, "tcp", p.ip+":"+port, "udp", p.ip+":"+port), append(to, other, other)
			}
		}
		got, err := k.pods[from].ask(quietFor.String(), pairs)
		if err != nil {
			k.t.Fatal(err)
		}
		for i, who := range got {
			want := ""
			if mayTalk(vnid, namespaceOf(from), namespaceOf(to[i])) {
				want = to[i]
			}
			if who != want {
				k.t.Errorf("%s to %s by %s: answered by %q, want %q", from, to[i], pairs[2*i], who, want)
			}
		}
	}
}

func named(pod string) types.NamespacedName {
	namespace, name, _ := strings.Cut(pod, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}
