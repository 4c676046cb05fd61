package policyoracle

import (
	"fmt"
	"net"
	_ "unsafe" // For go:linkname.

	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/knftables"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
	npav1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
	npaclient "sigs.k8s.io/network-policy-api/pkg/client/clientset/versioned"
	npafake "sigs.k8s.io/network-policy-api/pkg/client/clientset/versioned/fake"
	npainformers "sigs.k8s.io/network-policy-api/pkg/client/informers/externalversions"
	policyinformers "sigs.k8s.io/network-policy-api/pkg/client/informers/externalversions/apis/v1alpha1"

	coreinformers "k8s.io/client-go/informers/core/v1"
	networkinginformers "k8s.io/client-go/informers/networking/v1"
	clientset "k8s.io/client-go/kubernetes"
)

// packet has the fields, in order, of the engine's own type.
type packet struct {
	id      uint32 //lint:ignore U1000 It is the engine's.
	family  v1.IPFamily
	srcIP   net.IP
	dstIP   net.IP
	proto   v1.Protocol
	srcPort int
	dstPort int
	payload []byte //lint:ignore U1000 It is the engine's.
}

//go:linkname evaluatePacket sigs.k8s.io/kube-network-policies/pkg/networkpolicy.(*Controller).evaluatePacket
func evaluatePacket(c *networkpolicy.Controller, p packet) bool

//go:linkname newController sigs.k8s.io/kube-network-policies/pkg/networkpolicy.newController
func newController(client clientset.Interface, nft knftables.Interface, policies networkinginformers.NetworkPolicyInformer,
	namespaces coreinformers.NamespaceInformer, pods coreinformers.PodInformer, nodes coreinformers.NodeInformer,
	npaClient npaclient.Interface, admin policyinformers.AdminNetworkPolicyInformer,
	baseline policyinformers.BaselineAdminNetworkPolicyInformer, config networkpolicy.Config) (*networkpolicy.Controller, error)

// Engine answers questions about a cluster that does not change.
type Engine struct{ controller *networkpolicy.Controller }

// NewEngine gives the engine its cluster: Namespaces, Pods, NetworkPolicies,
// AdminNetworkPolicies and BaselineAdminNetworkPolicies. Nothing runs, and
// no kernel is touched.
func NewEngine(objects ...runtime.Object) (*Engine, error) {
	client := fake.NewClientset()
	npaClient := npafake.NewSimpleClientset()
	core := informers.NewSharedInformerFactory(client, 0)
	npa := npainformers.NewSharedInformerFactory(npaClient, 0)
	policies, admin, baseline := core.Networking().V1().NetworkPolicies(), npa.Policy().V1alpha1().AdminNetworkPolicies(),
		npa.Policy().V1alpha1().BaselineAdminNetworkPolicies()
	namespaces, pods := core.Core().V1().Namespaces(), core.Core().V1().Pods()
	c, err := newController(client, knftables.NewFake(knftables.InetFamily, "test"), policies, namespaces, pods, core.Core().V1().Nodes(),
		npaClient, admin, baseline, networkpolicy.Config{NodeName: "node", AdminNetworkPolicy: true, BaselineAdminNetworkPolicy: true})
	if err != nil {
		return nil, fmt.Errorf("make the engine: %w", err)
	}
	for _, o := range objects {
		var store cache.Store
		switch o.(type) {
		case *v1.Namespace:
			store = namespaces.Informer().GetStore()
		case *v1.Pod:
			store = pods.Informer().GetStore()
		case *networkingv1.NetworkPolicy:
			store = policies.Informer().GetStore()
		case *npav1alpha1.AdminNetworkPolicy:
			store = admin.Informer().GetStore()
		case *npav1alpha1.BaselineAdminNetworkPolicy:
			store = baseline.Informer().GetStore()
		default:
			return nil, fmt.Errorf("the engine takes no %T", o)
		}
		if err := store.Add(o); err != nil {
			return nil, fmt.Errorf("tell the engine of %T: %w", o, err)
		}
	}
	return &Engine{c}, nil
}

// Allows answers whether a connection may be.
func (e *Engine) Allows(from, to net.IP, protocol v1.Protocol, port int) bool {
	return evaluatePacket(e.controller, packet{family: v1.IPv4Protocol, srcIP: from, dstIP: to, proto: protocol, srcPort: 40000, dstPort: port})
}
