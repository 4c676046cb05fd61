package networkv1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// HostSubnet is one node's part of the pod network, and which egress IPs it may host and
// has. Its name is the node's.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name="Host",type=string,JSONPath=`.host`,description="The name of the node"
// +kubebuilder:printcolumn:name="Host IP",type=string,JSONPath=`.hostIP`,description="The IP address to be used as a VTEP by other nodes in the overlay network"
// +kubebuilder:printcolumn:name="Subnet",type=string,JSONPath=`.subnet`,description="The CIDR range of the overlay network assigned to the node for its pods"
// +kubebuilder:printcolumn:name="Egress CIDRs",type=string,JSONPath=`.egressCIDRs`,description="The network egress CIDRs"
// +kubebuilder:printcolumn:name="Egress IPs",type=string,JSONPath=`.egressIPs`,description="The network egress IP addresses"
// +kubebuilder:validation:XValidation:rule="self.host == self.metadata.name",message="host is the name of the HostSubnet"
type HostSubnet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Host is the name of the node.
	// +kubebuilder:validation:MaxLength=253
	Host string `json:"host"`
	// HostIP is the address by which other nodes send tunnel packets.
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="is no IP address"
	// +kubebuilder:validation:MaxLength=64
	HostIP string `json:"hostIP"`
	// Subnet is the node's range of pod addresses. It is given by damask-ipam; what is here
	// when an unknown node comes is taken over.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == '' || isCIDR(self)",message="is no range, as 10.128.0.0/23"
	// +kubebuilder:validation:MaxLength=64
	Subnet string `json:"subnet,omitempty"`
	// EgressIPs are the addresses that the node hosts: as somebody wishes, or, where it has
	// egressCIDRs, as damask-egress decides.
	// +optional
	// +kubebuilder:validation:MaxItems=1024
	// +listType=atomic
	EgressIPs []EgressIP `json:"egressIPs,omitempty"`
	// EgressCIDRs are the ranges of which damask-egress may have the node host addresses.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	EgressCIDRs []EgressCIDR `json:"egressCIDRs,omitempty"`

	// +optional
	Status Status `json:"status,omitempty"`
}

// EgressIP is an address by which pods leave the cluster.
//
// +kubebuilder:validation:XValidation:rule="isIP(self)",message="is no IP address"
// +kubebuilder:validation:MaxLength=64
type EgressIP string

// EgressCIDR is a range of such addresses.
//
// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="is no range, as 192.168.108.192/26"
// +kubebuilder:validation:MaxLength=64
type EgressCIDR string

// AnnotationNodeUID is the annotation with the UID of the Node that a HostSubnet was made
// for: one without was made by a person, and is kept without a Node.
const AnnotationNodeUID = "pod.network.openshift.io/node-uid"

// HostSubnetList is a list of them.
//
// +kubebuilder:object:root=true
type HostSubnetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []HostSubnet `json:"items"`
}
