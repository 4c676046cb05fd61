package networkv1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is network.openshift.io/v1.
var GroupVersion = schema.GroupVersion{Group: "network.openshift.io", Version: "v1"}

// AddToScheme adds the kinds.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&ClusterNetwork{}, &ClusterNetworkList{}, &HostSubnet{}, &HostSubnetList{},
		&NetNamespace{}, &NetNamespaceList{}, &EgressNetworkPolicy{}, &EgressNetworkPolicyList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}

// Condition types that all kinds may have.
const (
	// ConditionAccepted says whether the service took the object as it is; its message has
	// every reason if not, and what it was before holds.
	ConditionAccepted = "Accepted"
	// ConditionIsolationMode says, of the ClusterNetwork, whether its pluginName is the
	// isolation mode.
	ConditionIsolationMode = "IsolationMode"
)

// Status is what Damask has to say about an object.
type Status struct {
	// Conditions, one a type.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
