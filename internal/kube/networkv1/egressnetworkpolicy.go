package networkv1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EgressNetworkPolicy says where the pods of its namespace may go outside of the cluster.
// The first rule that matches decides; without one they may.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type EgressNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec EgressNetworkPolicySpec `json:"spec"`

	// +optional
	Status Status `json:"status,omitempty"`
}

// EgressNetworkPolicySpec is what it says.
type EgressNetworkPolicySpec struct {
	// Order is the policy's place among those of its namespace: the lowest first; of
	// equals, by name. OpenShift SDN has one a namespace.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Order int64 `json:"order,omitempty"`
	// Egress are the rules, in order.
	// +kubebuilder:validation:MaxItems=10000
	// +listType=atomic
	Egress []EgressNetworkPolicyRule `json:"egress"`
}

// RuleType is what a rule does.
//
// +kubebuilder:validation:Enum=Allow;Deny
type RuleType string

// What a rule does.
const (
	Allow RuleType = "Allow"
	Deny  RuleType = "Deny"
)

// EgressNetworkPolicyRule is one rule.
type EgressNetworkPolicyRule struct {
	// Type is what happens.
	Type RuleType `json:"type"`
	// To is to where.
	To EgressNetworkPolicyPeer `json:"to"`
	// Ports are which ports; none: all.
	// +optional
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	Ports []EgressNetworkPolicyPort `json:"ports,omitempty"`
}

// EgressNetworkPolicyPeer is a range or a name: exactly one. Which, and whether it is one,
// is checked by damask-egress, which says so in the condition Accepted: rules that the API
// server could check for ten thousand of them would cost it too much.
type EgressNetworkPolicyPeer struct {
	// CIDRSelector is a range; 0.0.0.0/0 is everywhere.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	CIDRSelector string `json:"cidrSelector,omitempty"`
	// DNSName stands for the addresses of a name; with "*." before it, for those below it.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	DNSName string `json:"dnsName,omitempty"`
}

// EgressNetworkPolicyPort is a port or a range of ports.
type EgressNetworkPolicyPort struct {
	// Protocol is TCP, UDP or SCTP. Default: TCP.
	// +optional
	// +kubebuilder:validation:Enum=TCP;UDP;SCTP
	Protocol corev1.Protocol `json:"protocol,omitempty"`
	// Port is the port, or the first. Left out: all ports of the protocol.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
	// EndPort is the last.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	EndPort *int32 `json:"endPort,omitempty"`
}

// EgressNetworkPolicyList is a list of them.
//
// +kubebuilder:object:root=true
type EgressNetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []EgressNetworkPolicy `json:"items"`
}
