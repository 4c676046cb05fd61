package networkv1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ClusterNetwork is the address plan of the cluster. There is one, "default".
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name="Cluster Network",type=string,JSONPath=`.network`,description="The primary cluster network CIDR"
// +kubebuilder:printcolumn:name="Service Network",type=string,JSONPath=`.serviceNetwork`,description="The service network CIDR"
// +kubebuilder:printcolumn:name="Plugin Name",type=string,JSONPath=`.pluginName`,description="The isolation mode"
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`,priority=1
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="there is one ClusterNetwork, and its name is default"
// +kubebuilder:validation:XValidation:rule="has(self.clusterNetworks) && size(self.clusterNetworks) > 0 || has(self.network)",message="clusterNetworks or network is required"
type ClusterNetwork struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Network is the first range of pod addresses again, as older clients read it.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == '' || isCIDR(self)",message="is no range, as 10.128.0.0/14"
	// +kubebuilder:validation:MaxLength=64
	Network string `json:"network,omitempty"`
	// HostSubnetLength is the first range's number of host bits in a node's subnet.
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=30
	HostSubnetLength uint32 `json:"hostsubnetlength,omitempty"`
	// ServiceNetwork is the range of service addresses.
	// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="is no range, as 172.30.0.0/16"
	// +kubebuilder:validation:MaxLength=64
	ServiceNetwork string `json:"serviceNetwork"`
	// PluginName is the isolation mode as OpenShift names it: redhat/openshift-ovs-subnet,
	// -multitenant or -networkpolicy; or Damask's damask/combined.
	// +optional
	// +kubebuilder:validation:Enum=redhat/openshift-ovs-subnet;redhat/openshift-ovs-multitenant;redhat/openshift-ovs-networkpolicy;damask/combined
	PluginName string `json:"pluginName,omitempty"`
	// ClusterNetworks are the ranges of pod addresses, in the order in which they are used.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	ClusterNetworks []ClusterNetworkEntry `json:"clusterNetworks,omitempty"`
	// VXLANPort is the UDP port of the tunnel between nodes. Default: 4789.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	VXLANPort *uint32 `json:"vxlanPort,omitempty"`
	// MTU of pods, in bytes. Default: that of the node's interface, less the tunnel's overhead.
	// +optional
	// +kubebuilder:validation:Minimum=576
	// +kubebuilder:validation:Maximum=65535
	MTU *uint32 `json:"mtu,omitempty"`

	// +optional
	Status Status `json:"status,omitempty"`
}

// ClusterNetworkEntry is one range of pod addresses.
type ClusterNetworkEntry struct {
	// CIDR is the range.
	// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="is no range, as 10.128.0.0/14"
	// +kubebuilder:validation:MaxLength=64
	CIDR string `json:"CIDR"`
	// HostSubnetLength is the number of host bits in a node's subnet: 9 gives each a /23.
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=30
	HostSubnetLength uint32 `json:"hostSubnetLength"`
}

// ClusterNetworkList is a list of them.
//
// +kubebuilder:object:root=true
type ClusterNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ClusterNetwork `json:"items"`
}
