package kube

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Trimming keeps, of objects that somebody else writes, what a service reads: a Pod of
// some kilobytes becomes some hundred bytes. An object that is trimmed must never be
// written back whole.

// trims are the kinds that are trimmed. Of every other kind the managed fields go.
func trims() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&corev1.Node{}:               {Transform: trimmed(trimNode)},
		&corev1.Namespace{}:          {Transform: trimmed(trimNamespace)},
		&corev1.Pod{}:                {Transform: trimmed(trimPod)},
		&corev1.Service{}:            {Transform: trimmed(trimService)},
		&discoveryv1.EndpointSlice{}: {Transform: trimmed(trimSlice)},
	}
}

// trimmed makes a transformation of a function. What is no such object, as the mark of a
// deletion that was missed, passes as it is.
func trimmed[T client.Object](trim func(T)) func(any) (any, error) {
	return func(obj any) (any, error) {
		if o, ok := obj.(T); ok {
			o.SetManagedFields(nil)
			trim(o)
		}
		return obj, nil
	}
}

// keepAnnotations leaves those that are ours or the ancestor's: others may be as large as
// the object.
func keepAnnotations(m *metav1.ObjectMeta, keep ...string) {
	kept := map[string]string{}
	for _, key := range keep {
		if v, ok := m.Annotations[key]; ok {
			kept[key] = v
		}
	}
	m.Annotations = kept
}

func trimNode(n *corev1.Node) {
	keepAnnotations(&n.ObjectMeta)
	n.Spec = corev1.NodeSpec{ProviderID: n.Spec.ProviderID}
	n.Status = corev1.NodeStatus{
		Addresses: n.Status.Addresses, Conditions: n.Status.Conditions,
		NodeInfo: corev1.NodeSystemInfo{MachineID: n.Status.NodeInfo.MachineID},
	}
}

func trimNamespace(n *corev1.Namespace) {
	keepAnnotations(&n.ObjectMeta)
	n.Spec = corev1.NamespaceSpec{}
	n.Status = corev1.NamespaceStatus{Phase: n.Status.Phase}
}

func trimPod(p *corev1.Pod) {
	keepAnnotations(&p.ObjectMeta, corev1.MirrorPodAnnotationKey)
	p.OwnerReferences = nil
	p.Spec = corev1.PodSpec{
		NodeName: p.Spec.NodeName, HostNetwork: p.Spec.HostNetwork,
		Containers: withPorts(p.Spec.Containers), InitContainers: withPorts(p.Spec.InitContainers),
	}
	status := corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			status.Conditions = append(status.Conditions, corev1.PodCondition{Type: c.Type, Status: c.Status})
		}
	}
	p.Status = status
}

// withPorts leaves the containers that have ports, and of them who they are. Among initial
// ones those count that stay (KEP-753).
func withPorts(all []corev1.Container) (kept []corev1.Container) {
	for _, c := range all {
		if len(c.Ports) > 0 {
			kept = append(kept, corev1.Container{Name: c.Name, Ports: c.Ports, RestartPolicy: c.RestartPolicy})
		}
	}
	return kept
}

func trimService(s *corev1.Service) {
	keepAnnotations(&s.ObjectMeta, IdledAt)
	s.Status = corev1.ServiceStatus{LoadBalancer: s.Status.LoadBalancer, Conditions: s.Status.Conditions}
}

func trimSlice(s *discoveryv1.EndpointSlice) {
	keepAnnotations(&s.ObjectMeta)
	for i := range s.Endpoints {
		s.Endpoints[i].DeprecatedTopology = nil
	}
}

// IdledAt is the annotation of a Service whose pods were scaled to none, and are to be
// started again by the first packet: OpenShift's.
const IdledAt = "idling.alpha.openshift.io/idled-at"
