package kube

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/kube/networkv1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/labels"
	"github.com/damask-sdn/damask/services/tenancy/registry"
)

// Nodes of which no agent has ever reported are still the network's that was there before.
// Their pods are known by what the cluster tells, so that policies on other nodes let them
// in: see registry.PutForeign.

// lookAgain is after how long a pod is looked at again of whose node it is not known yet
// whether it has a HostSubnet. What is stored stays meanwhile.
const lookAgain = time.Second

// reconcileForeign looks at a pod of which no agent has reported; stored is nil if nobody
// has told of it yet.
func (a *Adapter) reconcileForeign(ctx context.Context, of types.NamespacedName, stored *tenancyv1.Pod) error {
	at, lodges := a.lodgers.find(of)
	if stored == nil && (!lodges || a.store.Pods.IsReported(at.node)) {
		return nil // as nearly all are
	}
	pod := &corev1.Pod{}
	err := a.kube.Client().Get(ctx, of, pod)
	if apierrors.IsNotFound(err) {
		return a.dropForeign(ctx, of, stored, &corev1.Pod{}, of)
	}
	if err != nil {
		return fmt.Errorf("read Pod %s: %w", of, err)
	}
	at, lodges = lodgerOf(pod)
	if !lodges || a.store.Pods.IsReported(at.node) || at.leaving && a.lodgers.taken(at, of) {
		return a.dropForeign(ctx, of, stored, nil, of)
	}
	subnet, has, known := a.lodgers.subnet(at.node)
	switch {
	case !known:
		return kube.Later(lookAgain)
	case !has:
		return a.dropForeign(ctx, of, stored, &networkv1.HostSubnet{}, types.NamespacedName{Name: at.node})
	case !subnet.Contains(at.address):
		// Not on the network; or somebody has taken the node, and says that its pods have
		// other nodes' addresses.
		return a.dropForeign(ctx, of, stored, nil, of)
	}
	if size := labels.Size(pod.Labels); size > labels.MaxBytes {
		a.kube.Event(pod, corev1.EventTypeWarning, "TooLarge", (&labels.TooLargeError{Bytes: size}).Error())
		return a.dropForeign(ctx, of, stored, nil, of)
	}
	return a.store.Pods.PutForeign(ctx, &tenancyv1.Pod{
		Namespace: of.Namespace, Name: of.Name, Node: at.node, Ips: []string{at.address.String()},
		Labels: pod.Labels, Ports: portsOf(pod), Uid: reportedUID(pod),
	})
}

// dropForeign removes a pod, if it is stored. If that is because the cache does not show an
// object, the API server is asked for it: gone is its kind, nil for nothing.
func (a *Adapter) dropForeign(ctx context.Context, of types.NamespacedName, stored *tenancyv1.Pod, gone client.Object, name types.NamespacedName) error {
	if stored == nil {
		return nil
	}
	if gone != nil {
		if err := a.kube.Gone(ctx, gone, name); err != nil {
			return err
		}
	}
	return a.store.Pods.DropForeign(ctx, registry.Name{Namespace: of.Namespace, Pod: of.Name})
}

// reportedUID is the UID by which an agent will report a Pod: that which its kubelet knows.
func reportedUID(pod *corev1.Pod) string {
	if uid := mirrored(pod); uid != "" {
		return uid
	}
	return string(pod.UID)
}

// nodeReported tells of the pods that count otherwise since a node's mark came or went.
func (a *Adapter) nodeReported(node string) {
	names := a.lodgers.of(node)
	for _, name := range a.store.Pods.Foreign(node) {
		names = append(names, types.NamespacedName{Namespace: name.Namespace, Name: name.Pod})
	}
	a.stored.pods.Changed(names...)
}
