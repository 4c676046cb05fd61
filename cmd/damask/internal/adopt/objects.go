package adopt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Cluster is the objects of a cluster, as far as they matter here. Fields have the names
// that the API has.
type Cluster struct {
	ClusterNetworks       []ClusterNetwork
	HostSubnets           []HostSubnet
	NetNamespaces         []NetNamespace
	EgressNetworkPolicies []EgressNetworkPolicy
	NetworkPolicies       []NetworkPolicy
	Nodes                 []Node
}

// Metadata is what objects have in common.
type Metadata struct {
	Name        string            `yaml:"name"`
	Namespace   string            `yaml:"namespace"`
	UID         string            `yaml:"uid"`
	Annotations map[string]string `yaml:"annotations"`
}

// FullName is the name with the namespace before it, if there is one.
func (m Metadata) FullName() string {
	if m.Namespace == "" {
		return m.Name
	}
	return m.Namespace + "/" + m.Name
}

// ClusterNetwork is network.openshift.io/v1's.
type ClusterNetwork struct {
	Metadata         Metadata `yaml:"metadata"`
	Network          string   `yaml:"network"`
	HostSubnetLength uint32   `yaml:"hostsubnetlength"`
	ServiceNetwork   string   `yaml:"serviceNetwork"`
	PluginName       string   `yaml:"pluginName"`
	ClusterNetworks  []Range  `yaml:"clusterNetworks"`
	VXLANPort        *uint32  `yaml:"vxlanPort"`
	MTU              *uint32  `yaml:"mtu"`
}

// Range is a range of pod addresses, and how many bits of an address are the pod's.
type Range struct {
	CIDR             string `yaml:"CIDR"`
	HostSubnetLength uint32 `yaml:"hostSubnetLength"`
}

// Ranges are those of the plan; older objects have one, in fields of its own.
func (c ClusterNetwork) Ranges() []Range {
	if len(c.ClusterNetworks) == 0 && c.Network != "" {
		return []Range{{c.Network, c.HostSubnetLength}}
	}
	return c.ClusterNetworks
}

// HostSubnet is network.openshift.io/v1's.
type HostSubnet struct {
	Metadata    Metadata `yaml:"metadata"`
	Host        string   `yaml:"host"`
	HostIP      string   `yaml:"hostIP"`
	Subnet      string   `yaml:"subnet"`
	EgressIPs   []string `yaml:"egressIPs"`
	EgressCIDRs []string `yaml:"egressCIDRs"`
}

// NetNamespace is network.openshift.io/v1's.
type NetNamespace struct {
	Metadata  Metadata `yaml:"metadata"`
	NetName   string   `yaml:"netname"`
	NetID     int64    `yaml:"netid"`
	EgressIPs []string `yaml:"egressIPs"`
}

// EgressNetworkPolicy is network.openshift.io/v1's.
type EgressNetworkPolicy struct {
	Metadata Metadata `yaml:"metadata"`
	Spec     struct {
		Order  int64  `yaml:"order"` // Damask's, as are ports
		Egress []Rule `yaml:"egress"`
	} `yaml:"spec"`
}

// Rule is a rule of an EgressNetworkPolicy.
type Rule struct {
	Type string `yaml:"type"`
	To   struct {
		CIDRSelector string `yaml:"cidrSelector"`
		DNSName      string `yaml:"dnsName"`
	} `yaml:"to"`
	Ports []struct {
		Protocol string `yaml:"protocol"`
		Port     uint32 `yaml:"port"`
		EndPort  uint32 `yaml:"endPort"`
	} `yaml:"ports"`
}

// Node is Kubernetes'.
type Node struct {
	Metadata Metadata `yaml:"metadata"`
	Status   struct {
		Addresses []struct {
			Type    string `yaml:"type"`
			Address string `yaml:"address"`
		} `yaml:"addresses"`
	} `yaml:"status"`
}

// internalIP is the address that OpenShift SDN and Damask take.
func (n Node) internalIP() string {
	for _, a := range n.Status.Addresses {
		if a.Type == "InternalIP" {
			return a.Address
		}
	}
	return ""
}

// Selector is Kubernetes' label selector, of which only matters whether it is empty.
type Selector struct {
	MatchLabels      map[string]string `yaml:"matchLabels"`
	MatchExpressions []any             `yaml:"matchExpressions"`
}

func (s *Selector) empty() bool {
	return s != nil && len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0
}

// NetworkPolicy is Kubernetes'.
type NetworkPolicy struct {
	Metadata Metadata   `yaml:"metadata"`
	Spec     PolicySpec `yaml:"spec"`
}

// PolicySpec is what a NetworkPolicy says.
type PolicySpec struct {
	Ingress []PolicyRule `yaml:"ingress"`
	Egress  []PolicyRule `yaml:"egress"`
	// Said is all of it, as it was written.
	Said map[string]any `yaml:"-"`
}

// UnmarshalYAML reads both.
func (s *PolicySpec) UnmarshalYAML(node *yaml.Node) error {
	type plain PolicySpec
	return errors.Join(node.Decode((*plain)(s)), node.Decode(&s.Said))
}

// PolicyRule is a rule of either direction.
type PolicyRule struct {
	Ports []PolicyPort `yaml:"ports"`
	From  []PolicyPeer `yaml:"from"`
	To    []PolicyPeer `yaml:"to"`
}

// PolicyPort is a port of a rule. Port is a number or a name.
type PolicyPort struct {
	Protocol string `yaml:"protocol"`
	Port     any    `yaml:"port"`
	EndPort  *int   `yaml:"endPort"`
}

// PolicyPeer is who is at the other end.
type PolicyPeer struct {
	PodSelector       *Selector `yaml:"podSelector"`
	NamespaceSelector *Selector `yaml:"namespaceSelector"`
	IPBlock           *struct {
		CIDR   string   `yaml:"cidr"`
		Except []string `yaml:"except"`
	} `yaml:"ipBlock"`
}

// Read takes in what kubectl or oc prints with -o yaml or -o json: objects, lists of
// objects, and several documents. Objects of other kinds are left out, and counted.
func (c *Cluster) Read(r io.Reader) (strangers int, err error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return 0, err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for number := 1; ; number++ {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return strangers, nil
		}
		if err == nil && len(document.Content) > 0 {
			var n int
			n, err = c.take(document.Content[0])
			strangers += n
		}
		if err != nil {
			return strangers, fmt.Errorf("document %d: %w", number, err)
		}
	}
}

// take takes in an object, or the items of a list.
func (c *Cluster) take(node *yaml.Node) (strangers int, err error) {
	if node.Tag == "!!null" {
		return 0, nil
	}
	var head struct {
		Kind  string      `yaml:"kind"`
		Items []yaml.Node `yaml:"items"`
	}
	if err := node.Decode(&head); err != nil {
		return 0, fmt.Errorf("line %d: not an object of Kubernetes: %w", node.Line, err)
	}
	if head.Items != nil {
		for i := range head.Items {
			n, err := c.take(&head.Items[i])
			if strangers += n; err != nil {
				return strangers, err
			}
		}
		return strangers, nil
	}
	switch head.Kind {
	case "":
		return 0, fmt.Errorf("line %d: not an object of Kubernetes: it has no kind", node.Line)
	case "List":
		return 0, nil
	case "ClusterNetwork":
		err = into(node, &c.ClusterNetworks)
	case "HostSubnet":
		err = into(node, &c.HostSubnets)
	case "NetNamespace":
		err = into(node, &c.NetNamespaces)
	case "EgressNetworkPolicy":
		err = into(node, &c.EgressNetworkPolicies)
	case "NetworkPolicy":
		err = into(node, &c.NetworkPolicies)
	case "Node":
		err = into(node, &c.Nodes)
	default:
		return 1, nil
	}
	if err != nil {
		return 0, fmt.Errorf("line %d: %s: %w", node.Line, head.Kind, err)
	}
	return 0, nil
}

// into appends an object to the list of its kind.
func into[T any](node *yaml.Node, list *[]T) error {
	var object T
	if err := node.Decode(&object); err != nil {
		return err
	}
	*list = append(*list, object)
	return nil
}

// With answers the cluster with other objects in the place of those of the same name, of the
// kinds that are about nodes.
func (c Cluster) With(fresh Cluster) Cluster {
	c.ClusterNetworks = replace(c.ClusterNetworks, fresh.ClusterNetworks, func(o ClusterNetwork) string { return o.Metadata.Name })
	c.HostSubnets = replace(c.HostSubnets, fresh.HostSubnets, func(o HostSubnet) string { return o.Metadata.Name })
	c.Nodes = replace(c.Nodes, fresh.Nodes, func(o Node) string { return o.Metadata.Name })
	return c
}

// replace answers a new list, in which fresh objects have the place of those of their name.
func replace[T any](list, fresh []T, name func(T) string) []T {
	is := map[string]bool{}
	for _, o := range fresh {
		is[name(o)] = true
	}
	return append(slices.DeleteFunc(slices.Clone(list), func(o T) bool { return is[name(o)] }), fresh...)
}

// counts says how many objects there are of each kind.
func (c *Cluster) counts() map[string]int {
	return map[string]int{
		"ClusterNetwork": len(c.ClusterNetworks), "HostSubnet": len(c.HostSubnets), "NetNamespace": len(c.NetNamespaces),
		"EgressNetworkPolicy": len(c.EgressNetworkPolicies), "NetworkPolicy": len(c.NetworkPolicies), "Node": len(c.Nodes),
	}
}
