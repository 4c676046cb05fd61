package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/kube"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/registry"
)

// pods knows the Pods of the cluster, and who waits for one.
type pods struct {
	kube *kube.Adapter

	mu      sync.Mutex
	synced  func() bool
	waiting map[types.NamespacedName]map[chan struct{}]bool
}

func newPods(from *kube.Adapter) *pods {
	return &pods{kube: from, waiting: map[types.NamespacedName]map[chan struct{}]bool{}}
}

func (p *pods) follow(ctx context.Context) error {
	synced, err := p.kube.Follow(ctx, &corev1.Pod{}, toolscache.ResourceEventHandlerFuncs{
		AddFunc:    p.seen,
		UpdateFunc: func(_, obj any) { p.seen(obj) },
	})
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.synced = synced
	return nil
}

// seen wakes who waits for a Pod.
func (p *pods) seen(obj any) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for wake := range p.waiting[client.ObjectKeyFromObject(pod)] {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

func (p *pods) known() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.synced != nil && p.synced()
}

// await has wake told when a Pod of that name is seen, until the answered function is
// called.
func (p *pods) await(name types.NamespacedName, wake chan struct{}) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[name] == nil {
		p.waiting[name] = map[chan struct{}]bool{}
	}
	p.waiting[name][wake] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if delete(p.waiting[name], wake); len(p.waiting[name]) == 0 {
			delete(p.waiting, name)
		}
	}
}

// describe is Describe of an Adapter.
func (p *pods) describe(ctx context.Context, report *tenancyv1.Pod, patience time.Duration) error {
	wake := make(chan struct{}, 1)
	name := types.NamespacedName{Namespace: report.GetNamespace(), Name: report.GetName()}
	defer p.await(name, wake)()
	timer := time.NewTimer(max(0, patience))
	defer timer.Stop()
	for {
		pod, err := p.find(ctx, report)
		switch {
		case err != nil:
			return err
		case pod != nil && pod.Spec.HostNetwork:
			return &registry.HostNetworkError{Name: registry.Name{Namespace: name.Namespace, Pod: name.Name}}
		case pod != nil:
			report.Labels, report.Ports = pod.Labels, portsOf(pod)
			return nil
		}
		select {
		case <-wake:
			continue
		case <-timer.C:
		case <-ctx.Done():
		}
		return &registry.UnknownPodError{Name: registry.Name{Namespace: name.Namespace, Pod: name.Name}, UID: report.GetUid()}
	}
}

// find answers the Pod that a report is of; nil when it is not known.
func (p *pods) find(ctx context.Context, report *tenancyv1.Pod) (*corev1.Pod, error) {
	if !p.known() {
		return nil, nil
	}
	pod := &corev1.Pod{}
	err := p.kube.Client().Get(ctx, client.ObjectKey{Namespace: report.GetNamespace(), Name: report.GetName()}, pod)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read Pod %s/%s: %w", report.GetNamespace(), report.GetName(), err)
	}
	if !isOf(report, pod) {
		return nil, nil
	}
	return pod, nil
}

// isOf says whether a registered pod is this Pod. Without a UID it is known by its node.
func isOf(registered *tenancyv1.Pod, pod *corev1.Pod) bool {
	if registered.GetUid() != "" {
		return registered.GetUid() == string(pod.UID) || registered.GetUid() == mirrored(pod)
	}
	return registered.GetNode() == pod.Spec.NodeName && pod.DeletionTimestamp == nil
}

// mirrored is the UID that a kubelet knows a Pod by which it did not get from the API
// server, but from a file: its object there has another.
func mirrored(pod *corev1.Pod) string { return pod.Annotations[corev1.MirrorPodAnnotationKey] }

// portsOf are the ports that a Pod's containers declare, in the order in which names are
// looked for.
func portsOf(pod *corev1.Pod) (ports []*tenancyv1.ContainerPort) {
	add := func(c corev1.Container) {
		for _, p := range c.Ports {
			ports = append(ports, &tenancyv1.ContainerPort{
				Name: p.Name, ContainerPort: uint32(p.ContainerPort), Protocol: protocols[p.Protocol], //nolint:gosec // checked by the API server
			})
		}
	}
	for _, c := range pod.Spec.Containers {
		add(c)
	}
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	return ports
}

var protocols = map[corev1.Protocol]tenancyv1.Protocol{
	"": tenancyv1.Protocol_PROTOCOL_TCP, corev1.ProtocolTCP: tenancyv1.Protocol_PROTOCOL_TCP,
	corev1.ProtocolUDP: tenancyv1.Protocol_PROTOCOL_UDP, corev1.ProtocolSCTP: tenancyv1.Protocol_PROTOCOL_SCTP,
}
