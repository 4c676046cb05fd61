// Package openshifttest fills an API server for tests with what a cluster of OpenShift SDN
// has: the nodes and namespaces that were observed in one, and hundreds beside them.
//
// It owns what these objects say. It promises that all of them would be kept, and that the
// API server has all when Fill returns. It makes no store of Damask's.
package openshifttest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/damask-sdn/damask/internal/kubetest"
)

// Where these files are, from a directory beside this package's.
const (
	CRDs     = "../../../../deploy/crds"
	observed = "../../../../test/observed/node.yaml"
)

// atOnce is how many requests are under way.
const atOnce = 8

// Size is how many objects there are beside those that were observed, at most 250 nodes.
type Size struct{ Nodes, Namespaces, Firewalls, Policies int }

// Sample is an API server that is filled.
type Sample struct {
	*kubetest.Cluster
	api dynamic.Interface
}

// Fill installs the kinds, and makes the objects. The mode is networkpolicy.
func Fill(t testing.TB, cluster *kubetest.Cluster, size Size) *Sample {
	t.Helper()
	cluster.InstallCRDs(t, CRDs)
	api, err := dynamic.NewForConfig(cluster.Config())
	if err != nil {
		t.Fatal(err)
	}
	s := &Sample{Cluster: cluster, api: api}
	facts := read(t)
	s.create(t, object("network.openshift.io/v1", "ClusterNetwork", "default", `{"network": "10.128.0.0/14", "hostsubnetlength": 9,
		"serviceNetwork": "172.30.0.0/16", "pluginName": "redhat/openshift-ovs-networkpolicy",
		"clusterNetworks": [{"CIDR": "10.128.0.0/14", "hostSubnetLength": 9}], "vxlanPort": 4789, "mtu": 1450}`))
	s.Node(t, facts.node, facts.hostIP, facts.subnet, facts.egressIP)
	s.each(t, size.Nodes, func(i int) error {
		return s.node(t.Context(), fmt.Sprintf("node%d.ocp.cn", i), fmt.Sprintf("192.168.109.%d", i+1), fmt.Sprintf("10.130.%d.0/23", i*2), "")
	})
	for name, n := range facts.namespaces {
		s.Namespace(t, name, n.netid, n.egressIPs...)
	}
	s.each(t, size.Namespaces, func(i int) error { return s.namespace(t.Context(), fmt.Sprintf("shop-%d", i), 5_000_000+i) })
	s.each(t, size.Firewalls, func(i int) error {
		o := object("network.openshift.io/v1", "EgressNetworkPolicy", "default", fmt.Sprintf(`{"spec": {"egress": [
			{"type": "Allow", "to": {"dnsName": "www.example.com"}}, {"type": "Allow", "to": {"cidrSelector": "192.0.2.%d/32"}},
			{"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}}]}}`, i%250))
		o.SetNamespace(fmt.Sprintf("shop-%d", i))
		return s.post(t.Context(), o)
	})
	s.each(t, size.Policies, func(i int) error {
		o := object("networking.k8s.io/v1", "NetworkPolicy", fmt.Sprintf("allow-%d", i), `{"spec": {"podSelector": {}, "policyTypes": ["Ingress"],
			"ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"protocol": "TCP", "port": 8080}]}]}}`)
		o.SetNamespace(fmt.Sprintf("shop-%d", i%max(size.Namespaces, 1)))
		return s.post(t.Context(), o)
	})
	return s
}

// Node makes a node and its HostSubnet, which may host an egress IP.
func (s *Sample) Node(t testing.TB, name, ip, subnet, egressIP string) {
	t.Helper()
	if err := s.node(t.Context(), name, ip, subnet, egressIP); err != nil {
		t.Fatal(err)
	}
}

// Namespace makes a namespace and its NetNamespace.
func (s *Sample) Namespace(t testing.TB, name string, netid int, egressIPs ...string) {
	t.Helper()
	if err := s.namespace(t.Context(), name, netid, egressIPs...); err != nil {
		t.Fatal(err)
	}
}

// each makes so many of something, some at once.
func (s *Sample) each(t testing.TB, n int, one func(i int) error) {
	t.Helper()
	var working errgroup.Group
	working.SetLimit(atOnce)
	for i := range n {
		working.Go(func() error { return one(i) })
	}
	if err := working.Wait(); err != nil {
		t.Fatal(err)
	}
}

func (s *Sample) node(ctx context.Context, name, ip, subnet, egressIP string) error {
	made, err := s.api.Resource(nodes).Create(ctx, object("v1", "Node", name, `{}`), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	status := fmt.Sprintf(`{"status": {"addresses": [{"type": "Hostname", "address": %q}, {"type": "InternalIP", "address": %q}]}}`, name, ip)
	if _, err := s.api.Resource(nodes).Patch(ctx, name, types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status"); err != nil {
		return err
	}
	h := object("network.openshift.io/v1", "HostSubnet", name, fmt.Sprintf(`{"host": %q, "hostIP": %q, "subnet": %q}`, name, ip, subnet))
	h.SetAnnotations(map[string]string{"pod.network.openshift.io/node-uid": string(made.GetUID())})
	if egressIP != "" {
		h.Object["egressIPs"] = []any{egressIP}
	}
	return s.post(ctx, h)
}

func (s *Sample) namespace(ctx context.Context, name string, netid int, egressIPs ...string) error {
	err := s.post(ctx, object("v1", "Namespace", name, `{}`))
	if err != nil && !apierrors.IsAlreadyExists(err) { // some are there from the start
		return err
	}
	n := object("network.openshift.io/v1", "NetNamespace", name, fmt.Sprintf(`{"netname": %q, "netid": %d}`, name, netid))
	for _, ip := range egressIPs {
		list, _, _ := unstructured.NestedSlice(n.Object, "egressIPs")
		n.Object["egressIPs"] = append(list, any(ip))
	}
	return s.post(ctx, n)
}

func (s *Sample) create(t testing.TB, o *unstructured.Unstructured) {
	t.Helper()
	if err := s.post(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func (s *Sample) post(ctx context.Context, o *unstructured.Unstructured) error {
	kind := o.GroupVersionKind()
	resource := schema.GroupVersionResource{Group: kind.Group, Version: kind.Version, Resource: plural(kind.Kind)}
	var err error
	if o.GetNamespace() == "" {
		_, err = s.api.Resource(resource).Create(ctx, o, metav1.CreateOptions{})
	} else {
		_, err = s.api.Resource(resource).Namespace(o.GetNamespace()).Create(ctx, o, metav1.CreateOptions{})
	}
	return err
}

var nodes = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}

func plural(kind string) string {
	if stem, found := strings.CutSuffix(strings.ToLower(kind), "policy"); found {
		return stem + "policies"
	}
	return strings.ToLower(kind) + "s"
}

// object is an object with what a text in JSON says.
func object(version, kind, name, text string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(text), &o.Object); err != nil {
		panic(err) // it is written above
	}
	o.SetAPIVersion(version)
	o.SetKind(kind)
	o.SetName(name)
	return o
}

type namespace struct {
	netid     int
	egressIPs []string
}

// facts are what a cluster was seen to have.
type facts struct {
	node, hostIP, subnet, egressIP string
	namespaces                     map[string]namespace
}

func read(t testing.TB) facts {
	t.Helper()
	text, err := os.ReadFile(observed)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Objects struct {
			HostSubnet   struct{ Row []string }
			NetNamespace struct{ Rows [][]any }
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	row := file.Objects.HostSubnet.Row
	f := facts{node: row[0], hostIP: row[2], subnet: row[3], egressIP: ips(row[5])[0], namespaces: map[string]namespace{}}
	for _, row := range file.Objects.NetNamespace.Rows {
		f.namespaces[row[0].(string)] = namespace{row[1].(int), ips(row[2].(string))}
	}
	return f
}

// ips reads a list as oc prints it.
func ips(text string) []string { return strings.Fields(strings.Trim(text, "[]")) }
