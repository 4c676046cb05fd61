// Package openshift speaks to the API server of a cluster that runs OpenShift SDN, for
// `damask adopt`.
//
// It owns how its objects are read, how a Node says whose agent runs there, and which
// rights that takes. It promises that all objects are of one moment as far as the API server
// keeps moments, that whatever it may not do or does not find is named all at once, and that
// what it writes is one request a step, refused if the Node is not the one that was looked
// at. It must not write anything but Nodes, and judges nothing: see package adopt.
package openshift

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/damask-sdn/damask/internal/daemon"
)

// Group is the API group of OpenShift SDN's kinds.
const Group = "network.openshift.io"

// Requests a second and at once: some dozens of pages, and two or three for a node.
const (
	requests = 50
	burst    = 100
)

// Kubeconfig says which cluster, and as whom.
type Kubeconfig struct {
	// File is a kubeconfig; empty: what kubectl would take, KUBECONFIG or ~/.kube/config.
	File string
	// Context in it; empty: its present one.
	Context string
}

// Client speaks to one API server.
type Client struct {
	server string
	api    dynamic.Interface
}

// Open prepares to connect.
func Open(k Kubeconfig) (*Client, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = k.File
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: k.Context}).ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("no kubeconfig says which cluster: there is neither --kubeconfig nor KUBECONFIG nor ~/.kube/config")
	}
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	return newClient(config)
}

func newClient(config *rest.Config) (*Client, error) {
	config.UserAgent = "damask/" + daemon.Version()
	config.QPS, config.Burst = requests, burst
	api, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("use the kubeconfig: %w", err)
	}
	return &Client{server: config.Host, api: api}, nil
}

// kind is a kind of objects.
type kind struct {
	name     string
	resource schema.GroupVersionResource
}

// kinds are all that matter to a takeover, those first that only OpenShift SDN has.
var kinds = []kind{
	{"ClusterNetwork", schema.GroupVersionResource{Group: Group, Version: "v1", Resource: "clusternetworks"}},
	{"HostSubnet", schema.GroupVersionResource{Group: Group, Version: "v1", Resource: "hostsubnets"}},
	{"NetNamespace", schema.GroupVersionResource{Group: Group, Version: "v1", Resource: "netnamespaces"}},
	{"EgressNetworkPolicy", schema.GroupVersionResource{Group: Group, Version: "v1", Resource: "egressnetworkpolicies"}},
	{"Node", nodes},
	{"NetworkPolicy", schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"}},
}

var nodes = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
