package topology

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
)

// Kubernetes is an API server outside of the lab, which somebody else runs. The control
// services follow its objects.
type Kubernetes struct {
	// Kubeconfig is the path of a file that says where the API server is, and as whom the
	// control services speak to it.
	Kubeconfig string `yaml:"kubeconfig"`
	// Services are other users for some of them, by "ipam", "tenancy", "servicelb" and
	// "egress": paths of kubeconfigs for the same API server.
	Services map[string]string `yaml:"services"`
	// Cluster is the UID of the namespace kube-system that the store belongs to. Empty:
	// that of the API server.
	Cluster string `yaml:"cluster"`
}

// followers are the control services that follow objects.
func followers() []string { return []string{"ipam", "tenancy", "servicelb", "egress"} }

// Kubeconfigs are the paths of kubeconfigs by who uses them: control services, and nodes
// whose agents do. No node has the name of a service.
func (t *Topology) Kubeconfigs() map[string]string {
	users := map[string]string{}
	if t.Kubernetes == nil {
		return users
	}
	for _, service := range followers() {
		users[service] = t.Kubernetes.Kubeconfig
		if own, given := t.Kubernetes.Services[service]; given {
			users[service] = own
		}
	}
	for _, node := range t.Nodes {
		if node.Kubeconfig != "" {
			users[node.Name] = node.Kubeconfig
		}
	}
	return users
}

// said is a field whose meaning objects of an API server have.
type said struct{ field, by string }

var saidOfCluster = []said{
	{"mode", "pluginName of the ClusterNetwork"},
	{"clusterNetworks", "the ClusterNetwork"},
	{"serviceNetwork", "the ClusterNetwork"},
	{"tunnel", "the ClusterNetwork"},
	{"mtu", "the ClusterNetwork"},
	{"namespaces", "Namespaces and NetNamespaces"},
	{"pods", "Pods"},
	{"services", "Services"},
	{"endpointSlices", "EndpointSlices"},
	{"networkPolicies", "NetworkPolicies"},
	{"egressFirewalls", "EgressNetworkPolicies"},
}

var saidOfNodes = []said{
	{"subnet", "the node's HostSubnet"},
	{"egressIPs", "the node's HostSubnet"},
	{"egressCIDRs", "the node's HostSubnet"},
}

// kubernetes checks the section, and that nothing is said here that objects say: nobody
// could tell which of the two counts.
func (c *checker) kubernetes() {
	k := c.t.Kubernetes
	for i, node := range c.t.Nodes {
		switch path := fmt.Sprintf("nodes[%d].kubeconfig", i); {
		case node.Kubeconfig == "":
		case k == nil:
			c.Addf(path, "is given, and kubernetes is not")
		default:
			c.file(path, node.Kubeconfig)
		}
	}
	if k == nil {
		return
	}
	c.notGiven("", saidOfCluster)
	for i := range c.t.Nodes {
		place := fmt.Sprintf("nodes[%d].", i)
		c.notGiven(place, saidOfNodes)
		if c.Given(place + "egressCapacity") {
			c.Addf(place+"egressCapacity", "with kubernetes `damask patch hostsubnet` sets it, when the lab is up")
		}
	}
	for _, service := range slices.Sorted(maps.Keys(k.Services)) {
		path := "kubernetes.services." + service
		if !slices.Contains(followers(), service) {
			c.Addf(path, "the control services that follow objects are ipam, tenancy, servicelb and egress")
			continue
		}
		c.file(path, k.Services[service])
	}
	if k.Kubeconfig != "" || len(k.Services) < len(followers()) {
		c.file("kubernetes.kubeconfig", k.Kubeconfig)
	}
}

func (c *checker) notGiven(place string, fields []said) {
	for _, f := range fields {
		if c.Given(place + f.field) {
			c.Addf(place+f.field, "with kubernetes this is not the topology's to say, but that of objects: %s", f.by)
		}
	}
}

// file checks the path of a file that both `up` and the supervisor read.
func (c *checker) file(path, file string) {
	switch {
	case file == "":
		c.Addf(path, "required")
	case !filepath.IsAbs(file):
		c.Addf(path, "%q is not an absolute path", file)
	}
}
