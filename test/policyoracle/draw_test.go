package policyoracle

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"
	npav1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
)

// What is drawn is small, so that selectors, blocks and ports meet.
var (
	spaceNames = []string{"x", "y", "z"}
	blocks     = []string{"0.0.0.0/0", "10.1.0.0/16", "10.1.0.0/24", "10.1.1.0/24", "192.0.2.0/24", "10.1.0.2/31", "fd00::/8"}
	portNames  = []string{"http", "sql"}
)

func drawLabels(t *rapid.T) map[string]string {
	m := rapid.MapOf(rapid.SampledFrom([]string{"a", "b"}), rapid.SampledFrom([]string{"", "1", "2"})).Draw(t, "labels")
	if m == nil {
		return map[string]string{}
	}
	return m
}

func drawSelector(t *rapid.T) metav1.LabelSelector {
	s := metav1.LabelSelector{}
	if rapid.IntRange(0, 2).Draw(t, "match labels") == 0 {
		s.MatchLabels = drawLabels(t)
	}
	s.MatchExpressions = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) metav1.LabelSelectorRequirement {
		r := metav1.LabelSelectorRequirement{Key: rapid.SampledFrom([]string{"a", "b", "kubernetes.io/metadata.name"}).Draw(t, "key"),
			Operator: rapid.SampledFrom([]metav1.LabelSelectorOperator{"In", "NotIn", "Exists", "DoesNotExist"}).Draw(t, "operator")}
		if r.Operator == "In" || r.Operator == "NotIn" {
			r.Values = rapid.SliceOfN(rapid.SampledFrom([]string{"", "1", "2", "x"}), 1, 2).Draw(t, "values")
		}
		return r
	}), 0, 1).Draw(t, "expressions")
	return s
}

func drawPod(t *rapid.T, n int) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: rapid.SampledFrom(spaceNames).Draw(t, "namespace"), Name: fmt.Sprint("p", n), Labels: drawLabels(t)}}
	p.Spec.NodeName = "node"
	p.Status.Phase = v1.PodRunning
	p.Status.PodIPs = []v1.PodIP{{IP: fmt.Sprintf("10.1.%d.%d", n%2, n)}}
	container := v1.Container{Name: "c"}
	// One name of a protocol once: Kubernetes does not say which of two counts.
	for _, name := range portNames {
		for _, protocol := range []v1.Protocol{v1.ProtocolTCP, v1.ProtocolUDP} {
			if rapid.IntRange(0, 2).Draw(t, "has "+name) == 0 {
				container.Ports = append(container.Ports, v1.ContainerPort{Name: name, Protocol: protocol,
					ContainerPort: rapid.SampledFrom([]int32{80, 81}).Draw(t, "number")})
			}
		}
	}
	p.Spec.Containers = []v1.Container{container}
	return p
}

func drawProtocol(t *rapid.T) v1.Protocol {
	return rapid.SampledFrom([]v1.Protocol{v1.ProtocolTCP, v1.ProtocolTCP, v1.ProtocolUDP, v1.ProtocolSCTP}).Draw(t, "protocol")
}

func drawPorts(t *rapid.T) []networkingv1.NetworkPolicyPort {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) networkingv1.NetworkPolicyPort {
		p := networkingv1.NetworkPolicyPort{}
		if rapid.Bool().Draw(t, "with protocol") {
			protocol := drawProtocol(t)
			p.Protocol = &protocol
		}
		switch rapid.IntRange(0, 3).Draw(t, "kind of port") {
		case 1:
			number := intstr.FromInt32(rapid.SampledFrom([]int32{79, 80, 81}).Draw(t, "port"))
			p.Port = &number
		case 2:
			number, end := intstr.FromInt32(80), rapid.SampledFrom([]int32{80, 81, 90, 99}).Draw(t, "end")
			p.Port, p.EndPort = &number, &end
		case 3:
			name := intstr.FromString(rapid.SampledFrom(portNames).Draw(t, "port name"))
			p.Port = &name
		}
		return p
	}), 0, 2).Draw(t, "ports")
}

func drawPeers(t *rapid.T) []networkingv1.NetworkPolicyPeer {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) networkingv1.NetworkPolicyPeer {
		p := networkingv1.NetworkPolicyPeer{}
		kind := rapid.IntRange(0, 3).Draw(t, "kind of peer")
		if kind == 0 {
			p.IPBlock = drawBlock(t)
			return p
		}
		if kind != 1 {
			s := drawSelector(t)
			p.PodSelector = &s
		}
		if kind != 2 {
			s := drawSelector(t)
			p.NamespaceSelector = &s
		}
		return p
	}), 0, 2).Draw(t, "peers")
}

func drawBlock(t *rapid.T) *networkingv1.IPBlock {
	b := &networkingv1.IPBlock{CIDR: rapid.SampledFrom(blocks).Draw(t, "cidr")}
	if b.CIDR == "0.0.0.0/0" || b.CIDR == "10.1.0.0/16" {
		b.Except = rapid.SliceOfN(rapid.SampledFrom([]string{"10.1.0.0/24", "10.1.1.0/25", "10.1.0.2/32"}), 0, 2).Draw(t, "except")
	}
	return b
}

// drawPolicy draws a NetworkPolicy. With a baseline it isolates both directions:
// the engine takes a policy of one direction as overriding the baseline in both,
// which the specification does not say.
func drawPolicy(t *rapid.T, n int, both bool) *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Namespace: rapid.SampledFrom(spaceNames).Draw(t, "namespace"), Name: fmt.Sprint("np", n)}}
	p.Spec.PodSelector = drawSelector(t)
	p.Spec.PolicyTypes = rapid.SampledFrom([][]networkingv1.PolicyType{nil, {"Ingress"}, {"Egress"}, {"Ingress", "Egress"}}).Draw(t, "types")
	if both {
		p.Spec.PolicyTypes = []networkingv1.PolicyType{"Ingress", "Egress"}
	}
	for range rapid.IntRange(0, 2).Draw(t, "ingress rules") {
		p.Spec.Ingress = append(p.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: drawPeers(t), Ports: drawPorts(t)})
	}
	for range rapid.IntRange(0, 2).Draw(t, "egress rules") {
		p.Spec.Egress = append(p.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: drawPeers(t), Ports: drawPorts(t)})
	}
	return p
}

func drawSubject(t *rapid.T) npav1alpha1.AdminNetworkPolicySubject {
	namespaces := drawSelector(t)
	if rapid.Bool().Draw(t, "by namespace") {
		return npav1alpha1.AdminNetworkPolicySubject{Namespaces: &namespaces}
	}
	return npav1alpha1.AdminNetworkPolicySubject{Pods: &npav1alpha1.NamespacedPod{NamespaceSelector: namespaces, PodSelector: drawSelector(t)}}
}

// drawAdminPorts draws no names: the engine lets a name match any port.
func drawAdminPorts(t *rapid.T) *[]npav1alpha1.AdminNetworkPolicyPort {
	if rapid.Bool().Draw(t, "any port") {
		return nil
	}
	p := npav1alpha1.AdminNetworkPolicyPort{}
	if rapid.Bool().Draw(t, "range") {
		p.PortRange = &npav1alpha1.PortRange{Protocol: drawProtocol(t), Start: 80, End: rapid.SampledFrom([]int32{81, 90, 99}).Draw(t, "end")}
	} else {
		p.PortNumber = &npav1alpha1.Port{Protocol: drawProtocol(t), Port: rapid.SampledFrom([]int32{79, 80, 81}).Draw(t, "port")}
	}
	return &[]npav1alpha1.AdminNetworkPolicyPort{p}
}

func drawAdminFrom(t *rapid.T) []npav1alpha1.AdminNetworkPolicyIngressPeer {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) npav1alpha1.AdminNetworkPolicyIngressPeer {
		return npav1alpha1.AdminNetworkPolicyIngressPeer(drawSubject(t))
	}), 1, 2).Draw(t, "from")
}

func drawAdminTo(t *rapid.T) []npav1alpha1.AdminNetworkPolicyEgressPeer {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) npav1alpha1.AdminNetworkPolicyEgressPeer {
		if rapid.IntRange(0, 2).Draw(t, "networks") == 0 {
			return npav1alpha1.AdminNetworkPolicyEgressPeer{Networks: []npav1alpha1.CIDR{npav1alpha1.CIDR(rapid.SampledFrom(blocks).Draw(t, "network"))}}
		}
		s := drawSubject(t)
		return npav1alpha1.AdminNetworkPolicyEgressPeer{Namespaces: s.Namespaces, Pods: s.Pods}
	}), 1, 2).Draw(t, "to")
}

func drawAdmin(t *rapid.T, n int) *npav1alpha1.AdminNetworkPolicy {
	p := &npav1alpha1.AdminNetworkPolicy{TypeMeta: metav1.TypeMeta{APIVersion: "policy.networking.k8s.io/v1alpha1", Kind: "AdminNetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("anp", n)}}
	p.Spec.Priority = rapid.Int32Range(0, 2).Draw(t, "priority")
	p.Spec.Subject = drawSubject(t)
	action := rapid.SampledFrom([]npav1alpha1.AdminNetworkPolicyRuleAction{"Allow", "Deny", "Pass"})
	for range rapid.IntRange(0, 2).Draw(t, "ingress rules") {
		p.Spec.Ingress = append(p.Spec.Ingress, npav1alpha1.AdminNetworkPolicyIngressRule{Action: action.Draw(t, "action"), From: drawAdminFrom(t), Ports: drawAdminPorts(t)})
	}
	for range rapid.IntRange(0, 2).Draw(t, "egress rules") {
		p.Spec.Egress = append(p.Spec.Egress, npav1alpha1.AdminNetworkPolicyEgressRule{Action: action.Draw(t, "action"), To: drawAdminTo(t), Ports: drawAdminPorts(t)})
	}
	return p
}

func drawBaseline(t *rapid.T) *npav1alpha1.BaselineAdminNetworkPolicy {
	p := &npav1alpha1.BaselineAdminNetworkPolicy{TypeMeta: metav1.TypeMeta{APIVersion: "policy.networking.k8s.io/v1alpha1", Kind: "BaselineAdminNetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	p.Spec.Subject = drawSubject(t)
	action := rapid.SampledFrom([]npav1alpha1.BaselineAdminNetworkPolicyRuleAction{"Allow", "Deny"})
	for range rapid.IntRange(0, 2).Draw(t, "ingress rules") {
		p.Spec.Ingress = append(p.Spec.Ingress, npav1alpha1.BaselineAdminNetworkPolicyIngressRule{Action: action.Draw(t, "action"), From: drawAdminFrom(t), Ports: drawAdminPorts(t)})
	}
	for range rapid.IntRange(0, 2).Draw(t, "egress rules") {
		p.Spec.Egress = append(p.Spec.Egress, npav1alpha1.BaselineAdminNetworkPolicyEgressRule{Action: action.Draw(t, "action"), To: drawAdminTo(t), Ports: drawAdminPorts(t)})
	}
	return p
}
