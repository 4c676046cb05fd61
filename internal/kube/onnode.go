package kube

import (
	"context"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// NewOnNode is New for who runs on a node: of Nodes the cache has that one, of Pods those on
// it, and the API server tells of no other. A cluster of a thousand nodes has a thousand of
// these.
func NewOnNode(cfg Config, service, node string, log hclog.Logger) (*Adapter, error) {
	return newAdapter(cfg, service, onNode(node), log)
}

// RunOnNode keeps the cache, sends events, and works until ctx ends: for who has no store, and
// so no other replica and no lease. It waits for the API server.
func (a *Adapter) RunOnNode(ctx context.Context, controllers ...Controller) error {
	group, ctx := errgroup.WithContext(ctx)
	a.keep(ctx, group)
	for _, c := range controllers {
		group.Go(func() error { return a.control(ctx, c, func(error) {}) })
	}
	return group.Wait()
}

// onNode is what is asked for, and what is kept of it.
func onNode(node string) map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&corev1.Node{}: {Field: fields.OneTermEqualSelector("metadata.name", node), Transform: trimmed(trimOwnNode)},
		&corev1.Pod{}:  {Field: fields.OneTermEqualSelector("spec.nodeName", node), Transform: trimmed(trimOwnPod)},
	}
}

// Annotations of a Pod that say how fast it may be: Kubernetes'.
const (
	IngressBandwidth = "kubernetes.io/ingress-bandwidth"
	EgressBandwidth  = "kubernetes.io/egress-bandwidth"
)

func trimOwnNode(n *corev1.Node) {
	keepAnnotations(&n.ObjectMeta)
	n.Spec = corev1.NodeSpec{Taints: n.Spec.Taints}
	n.Status = corev1.NodeStatus{Conditions: n.Status.Conditions}
}

func trimOwnPod(p *corev1.Pod) {
	keepAnnotations(&p.ObjectMeta, IngressBandwidth, EgressBandwidth)
	p.OwnerReferences = nil
	p.Spec = corev1.PodSpec{NodeName: p.Spec.NodeName, HostNetwork: p.Spec.HostNetwork}
	p.Status = corev1.PodStatus{Phase: p.Status.Phase}
}
