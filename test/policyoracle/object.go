package policyoracle

import (
	"encoding/json"
	"fmt"

	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	npav1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
)

// ReadObject reads one of the kinds that NewEngine takes, as Kubernetes writes them in
// JSON, and fills in what the API server would.
func ReadObject(text []byte) (runtime.Object, error) {
	var head metav1.TypeMeta
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, fmt.Errorf("read an object: %w", err)
	}
	var object runtime.Object
	switch head.Kind {
	case "Namespace":
		object = &v1.Namespace{}
	case "Pod":
		object = &v1.Pod{}
	case "NetworkPolicy":
		object = &networkingv1.NetworkPolicy{}
	case "AdminNetworkPolicy":
		object = &npav1alpha1.AdminNetworkPolicy{}
	case "BaselineAdminNetworkPolicy":
		object = &npav1alpha1.BaselineAdminNetworkPolicy{}
	default:
		return nil, fmt.Errorf("the engine takes no %q", head.Kind)
	}
	if err := json.Unmarshal(text, object); err != nil {
		return nil, fmt.Errorf("read %s: %w", head.Kind, err)
	}
	return stored(object), nil
}

// stored is what the API server stores.
func stored(object runtime.Object) runtime.Object {
	switch o := object.(type) {
	case *v1.Namespace:
		o = o.DeepCopy()
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels["kubernetes.io/metadata.name"] = o.Name
		return o
	case *networkingv1.NetworkPolicy:
		return defaulted(o)
	}
	return object
}

// defaulted has policyTypes and protocols by the API server's rules, and no lists that
// are there but empty.
func defaulted(p *networkingv1.NetworkPolicy) *networkingv1.NetworkPolicy {
	p = p.DeepCopy()
	if len(p.Spec.PolicyTypes) == 0 {
		p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(p.Spec.Egress) > 0 {
			p.Spec.PolicyTypes = append(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
	tcp := v1.ProtocolTCP
	fill := func(ports []networkingv1.NetworkPolicyPort) {
		for i := range ports {
			if ports[i].Protocol == nil {
				ports[i].Protocol = &tcp
			}
		}
	}
	if len(p.Spec.Ingress) == 0 {
		p.Spec.Ingress = nil
	}
	if len(p.Spec.Egress) == 0 {
		p.Spec.Egress = nil
	}
	for _, r := range p.Spec.Ingress {
		fill(r.Ports)
	}
	for _, r := range p.Spec.Egress {
		fill(r.Ports)
	}
	return p
}
