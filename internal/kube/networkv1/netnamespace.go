package networkv1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NetNamespace is a namespace's VNID, and by which addresses its pods leave the cluster.
// Its name is the namespace's.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name="NetID",type=integer,JSONPath=`.netid`,description="The network identifier of the network namespace"
// +kubebuilder:printcolumn:name="Egress IPs",type=string,JSONPath=`.egressIPs`,description="The network egress IP addresses"
// +kubebuilder:validation:XValidation:rule="self.netname == self.metadata.name",message="netname is the name of the NetNamespace"
type NetNamespace struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// NetName is the name of the namespace.
	// +kubebuilder:validation:MaxLength=63
	NetName string `json:"netname"`
	// NetID is the VNID, 0 to 16777215 (24 bits, RFC 7348); 0 reaches every other. It is
	// given by damask-tenancy: to change it, annotate
	// pod.network.openshift.io/multitenant.change-network. What is here when an unknown
	// namespace comes is taken over.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=16777215
	NetID uint32 `json:"netid"`
	// EgressIPs are the addresses by which the namespace's pods leave the cluster.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	EgressIPs []EgressIP `json:"egressIPs,omitempty"`

	// +optional
	Status Status `json:"status,omitempty"`
}

// Annotations of NetNamespaces, as OpenShift SDN has them.
const (
	// AnnotationChange asks for another VNID: "join:NAMESPACE", "isolate" or "global". It is
	// removed when that is done; when it cannot be, the condition Accepted says why.
	AnnotationChange = "pod.network.openshift.io/multitenant.change-network"
	// AnnotationMulticast is "true" where the namespace has multicast.
	AnnotationMulticast = "netnamespace.network.openshift.io/multicast-enabled"
	// AnnotationNamespaceUID is the UID of the Namespace that a NetNamespace was made for:
	// one without was made by a person, and is kept without a Namespace.
	AnnotationNamespaceUID = "pod.network.openshift.io/namespace-uid"
)

// NetNamespaceList is a list of them.
//
// +kubebuilder:object:root=true
type NetNamespaceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []NetNamespace `json:"items"`
}
