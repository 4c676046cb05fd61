package ipam_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/kubetest"
	"github.com/damask-sdn/damask/internal/logtest"
	"github.com/damask-sdn/damask/internal/natsd"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam"
)

// rights are those that are shipped: what the service may do in a cluster, and no more.
const rights = "../../deploy/kustomize/base/rbac/ipam.yaml"

const network = `
apiVersion: network.openshift.io/v1
kind: ClusterNetwork
metadata: {name: default}
network: 10.128.0.0/14
hostsubnetlength: 9
serviceNetwork: 172.30.0.0/16
clusterNetworks: [{CIDR: 10.128.0.0/14, hostSubnetLength: 9}]
`

// kubernetes is a cluster, and the configuration of a service that follows it.
type kubernetes struct {
	*testing.T
	*kubetest.Cluster
	ca  *identitytest.CA
	cfg ipam.Config
}

func newKubernetes(t *testing.T) *kubernetes {
	t.Helper()
	cluster := kubetest.Start(t)
	cluster.InstallCRDs(t, "../../deploy/crds")
	k := &kubernetes{T: t, Cluster: cluster, ca: identitytest.New(t)}
	k.cfg = embedded(t, k.ca)
	k.cfg.Kubernetes = kube.Config{Enabled: true, Kubeconfig: cluster.AsServiceAccount(t, rights).Kubeconfig()}
	return k
}

// node makes a Node with an address.
func (k *kubernetes) node(name, ip string) {
	k.Helper()
	k.Apply(k.T, fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata: {name: %s}\n", name))
	k.Kubectl(k.T, "patch", "node", name, "--subresource=status", "--type=merge", "-p", fmt.Sprintf(`{"status": {"addresses": [{"type": "InternalIP", "address": %q}]}}`, ip))
}

// wait waits until an object is so.
func (k *kubernetes) wait(object string, until ...string) {
	k.Helper()
	for _, u := range append([]string{"create"}, until...) {
		k.Kubectl(k.T, "wait", object, "--for="+u, "--timeout=40s")
	}
}

// subnet answers a HostSubnet's, when it is there and accepted.
func (k *kubernetes) subnet(node string) string {
	k.Helper()
	k.wait("hostsubnet/"+node, "condition=Accepted")
	return k.Kubectl(k.T, "get", "hostsubnet", node, "-o", "jsonpath={.subnet}")
}

func (k *kubernetes) agent(node string) ipamv1.HostSubnetServiceClient {
	return dial(k.T, k.ca, identity.Node(node), k.cfg.Listen).hostSubnets
}

// register registers a node's agent, as agents do: until it succeeds.
func (k *kubernetes) register(node, ip string) string {
	k.Helper()
	for until := time.Now().Add(40 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		answer, err := k.agent(node).AllocateHostSubnet(soon(k.T), registration(node, ip))
		switch {
		case err == nil:
			return answer.GetHostSubnet().GetSubnets()[0]
		case status.Code(err) != codes.Unavailable || time.Now().After(until):
			k.Fatalf("register %s: %v", node, err)
		}
	}
}

// registration is what an agent asks for its node.
func registration(node, ip string) *ipamv1.AllocateHostSubnetRequest {
	r := register(node)
	r.HostIps = []string{ip}
	return r
}

func TestOnKubernetesNodesHaveHostSubnets(t *testing.T) {
	k := newKubernetes(t)
	start(t, k.cfg)
	k.node("n1", "192.0.2.1") // waits for the plan
	k.Apply(t, network)
	k.wait("clusternetwork/default", "condition=Accepted")
	if got := k.subnet("n1"); got != "10.128.0.0/23" {
		t.Errorf("n1 has %s", got)
	}
	if got := k.register("n1", "192.0.2.1"); got != "10.128.0.0/23" {
		t.Errorf("the agent of n1 has %s", got)
	}
	k.node("n2", "192.0.2.2")
	k.subnet("n2")
	k.hasTheAncestorsColumns()

	// A plan that nodes stand against changes nothing, and says why.
	k.Kubectl(t, "patch", "clusternetwork", "default", "--type=merge", "-p", `{"clusterNetworks": [{"CIDR": "10.64.0.0/14", "hostSubnetLength": 9}]}`)
	k.wait("clusternetwork/default", "condition=Accepted=false")
	if why := k.Kubectl(t, "get", "clusternetwork", "default", "-o", `jsonpath={.status.conditions[?(@.type=="Accepted")].message}`); !strings.Contains(why, "2 nodes have subnets of it (n1 first)") {
		t.Errorf("refused because %q", why)
	}
	k.Kubectl(t, "patch", "clusternetwork", "default", "--type=merge", "-p", `{"clusterNetworks": [{"CIDR": "10.128.0.0/14", "hostSubnetLength": 9}]}`)
	k.wait("clusternetwork/default", "condition=Accepted")

	// What is lost comes back from the store.
	k.Kubectl(t, "delete", "hostsubnet", "--all")
	k.Kubectl(t, "delete", "clusternetwork", "default")
	k.wait("clusternetwork/default", "condition=Accepted")
	if got := k.subnet("n1"); got != "10.128.0.0/23" {
		t.Errorf("after its object was lost n1 has %s", got)
	}
	k.subnet("n2")

	// A hand that writes what is not its own is undone.
	k.Kubectl(t, "patch", "hostsubnet", "n2", "--type=merge", "-p", `{"subnet": "10.131.0.0/23", "egressIPs": ["192.0.2.200"]}`)
	k.wait("hostsubnet/n2", "jsonpath={.subnet}=10.129.0.0/23", "jsonpath={.egressIPs[0]}=192.0.2.200")

	// Another replica takes over, and a node that goes is released.
	second := embedded(t, k.ca)
	second.Kubernetes = k.cfg.Kubernetes
	second.NATS = natsd.Config{Servers: []string{"tls://" + k.cfg.NATS.Embedded.Listen}}
	start(t, second)
	k.Kubectl(t, "delete", "node", "n2")
	k.Kubectl(t, "wait", "hostsubnet/n2", "--for=delete", "--timeout=40s")
	if _, err := k.agent("n2").GetHostSubnet(soon(t), &ipamv1.GetHostSubnetRequest{Node: "n2"}); status.Code(err) != codes.NotFound {
		t.Errorf("the store has of the node that is gone: %v", err)
	}
}

// hasTheAncestorsColumns compares kubectl's columns with what was observed.
func (k *kubernetes) hasTheAncestorsColumns() {
	k.Helper()
	var observed struct {
		Objects struct {
			HostSubnet struct{ Columns []string } `yaml:"hostsubnet"`
		}
	}
	text, err := os.ReadFile("../../test/observed/node.yaml")
	if err == nil {
		err = yaml.Unmarshal(text, &observed)
	}
	if err != nil {
		k.Fatal(err)
	}
	header, _, _ := strings.Cut(k.Kubectl(k.T, "get", "hostsubnets"), "\n")
	want := strings.Join(observed.Objects.HostSubnet.Columns, " ")
	if got := strings.Join(strings.Fields(header), " "); got != want || want == "" {
		k.Errorf("kubectl get hostsubnets has the columns %q, want %q", got, want)
	}
}

func TestOnKubernetesANewClusterBeginsWithTheNetworkOfTheConfiguration(t *testing.T) {
	k := newKubernetes(t)
	k.cfg.InitialNetwork = &ipam.InitialNetwork{
		Networks: []ipam.InitialRange{{CIDR: "10.64.0.0/16", HostSubnetLength: 8}}, ServiceNetworks: []string{"172.30.0.0/16"},
		Tunnel: ipam.InitialTunnel{Type: "geneve"},
	}
	k.node("n1", "192.0.2.1")
	stop := start(t, k.cfg)
	if got := k.subnet("n1"); got != "10.64.0.0/24" {
		t.Errorf("n1 has %s", got)
	}
	k.wait("clusternetwork/default", "condition=Accepted", "jsonpath={.vxlanPort}=6081")
	stop()

	// From then on the object says what the plan is, also to a store that has none.
	k.Kubectl(t, "patch", "clusternetwork", "default", "--type=merge", "-p", `{"mtu": 1400}`)
	k.cfg.NATS.Embedded.StoreDir = t.TempDir()
	start(t, k.cfg)
	if got := k.subnet("n1"); got != "10.64.0.0/24" {
		t.Errorf("n1 has %s", got)
	}
	k.wait("clusternetwork/default", "jsonpath={.mtu}=1400", "condition=Accepted")
	got, err := dial(t, k.ca, identity.Operator("ann"), k.cfg.Listen).networks.GetClusterNetwork(soon(t), &ipamv1.GetClusterNetworkRequest{})
	if err != nil || got.GetClusterNetwork().GetTunnel().GetType() != ipamv1.TunnelType_TUNNEL_TYPE_GENEVE {
		t.Errorf("what the object cannot say is %v, %v", got, err)
	}
}

func TestOnKubernetesObjectsGiveALostStoreItsSubnetsBack(t *testing.T) {
	k := newKubernetes(t)
	k.Apply(t, network)
	for i := range 5 {
		k.node(fmt.Sprintf("n%d", i), fmt.Sprintf("192.0.2.%d", 10+i))
	}
	stop := start(t, k.cfg)
	before := map[string]string{}
	for i := range 5 {
		node := fmt.Sprintf("n%d", i)
		before[node] = k.subnet(node)
		k.register(node, fmt.Sprintf("192.0.2.%d", 10+i))
	}
	stop()
	k.cfg.NATS.Embedded.StoreDir = t.TempDir()
	// The API server is away while the service starts: whoever comes first gets nobody's.
	k.StopServer()
	start(t, k.cfg)
	if _, err := k.agent("new").AllocateHostSubnet(soon(t), registration("new", "192.0.2.99")); err == nil {
		t.Fatal("an unknown node got a subnet before objects were read")
	}
	k.StartServer(t)
	taken := k.register("new", "192.0.2.99")
	for node, subnet := range before {
		if got := k.register(node, "192.0.2.1"+node[1:]); got != subnet || got == taken {
			t.Errorf("%s has %s, before %s; the new node has %s", node, got, subnet, taken)
		}
	}
}

func TestOnKubernetesOtherClustersObjectsAreLeftAlone(t *testing.T) {
	k := newKubernetes(t)
	k.Apply(t, network)
	k.node("n1", "192.0.2.1")
	log, stop := k.logged()
	before := k.subnet("n1")
	k.register("n1", "192.0.2.1")

	// etcd is lost under the running service: no Node is there any more.
	k.LoseStore(t)
	k.InstallCRDs(t, "../../deploy/crds")
	k.AsServiceAccount(t, rights)
	awaitLine(t, log, "the store belongs to another cluster")
	if got := k.register("n1", "192.0.2.1"); got != before {
		t.Errorf("n1 has %s, before its cluster was lost %s", got, before)
	}
	stop()
	log, stop = k.logged()
	awaitLine(t, log, "the store belongs to another cluster")
	if got := k.register("n1", "192.0.2.1"); got != before {
		t.Errorf("after a restart n1 has %s, before its cluster was lost %s", got, before)
	}
	stop()

	// A person says that it is right.
	k.cfg.Kubernetes.Cluster = k.Kubectl(t, "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
	start(t, k.cfg)
	k.wait("clusternetwork/default", "condition=Accepted") // from the store
}

// logged runs the service until stop is called, and answers the errors that it logs.
func (k *kubernetes) logged() (log *logtest.Lines, stop func()) {
	log = &logtest.Lines{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ipam.Run(ctx, k.cfg, hclog.New(&hclog.LoggerOptions{Output: log, Level: hclog.Error})) }()
	return log, func() {
		cancel()
		if err := <-done; err != nil {
			k.Errorf("the service ended with %v", err)
		}
	}
}

// awaitLine waits until something was logged.
func awaitLine(t *testing.T, l *logtest.Lines, what string) {
	t.Helper()
	for until := time.Now().Add(40 * time.Second); !strings.Contains(l.String(), what); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("nobody logged %q, but %s", what, l)
		}
	}
}
