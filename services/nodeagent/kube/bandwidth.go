package kube

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/kube"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

// Limiter bounds how fast a pod of this node is, now and after restarts: all of its
// attachments. Nil: as fast as it can be. A pod that is not attached is no error. It is
// called again with the same until it has worked.
type Limiter func(ctx context.Context, pod types.NamespacedName, uid types.UID, b *cniv1.Bandwidth) error

// Bounds of the annotations, in bits a second: Kubernetes' own, which its kubelets had.
var (
	leastRate = resource.MustParse("1k")
	mostRate  = resource.MustParse("1P")
)

// reasonBandwidth is the reason of the Event of a Pod whose annotations say nothing that can be
// done.
const reasonBandwidth = "InvalidBandwidth"

// PodChanged says that a pod was attached. It never waits.
func (a *Adapter) PodChanged(namespace, name string) {
	a.attached.Changed(types.NamespacedName{Namespace: namespace, Name: name})
}

// reconcilePod makes a pod as fast as its annotations say. One that is not in the cache keeps
// what it has: either it goes, or the API server is away.
func (a *Adapter) reconcilePod(ctx context.Context, name types.NamespacedName) error {
	pod := &corev1.Pod{}
	if err := a.api.Client().Get(ctx, name, pod); err != nil {
		a.refused.Delete(name)
		return client.IgnoreNotFound(err)
	}
	if pod.Spec.HostNetwork || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	want, problems := bandwidthOf(pod.Annotations)
	if len(problems) > 0 {
		why := strings.Join(problems, "; ") + "; its bandwidth stays as it is"
		if said, _ := a.refused.Swap(name, why); said != why {
			a.api.Event(pod, corev1.EventTypeWarning, reasonBandwidth, why)
		}
		return nil
	}
	a.refused.Delete(name)
	return a.limit(ctx, name, pod.UID, want)
}

// bandwidthOf reads both annotations. problems has one line for each that cannot be done.
func bandwidthOf(annotations map[string]string) (b *cniv1.Bandwidth, problems []string) {
	want := &cniv1.Bandwidth{}
	for _, direction := range []struct {
		annotation string
		into       *uint64
	}{{kube.IngressBandwidth, &want.IngressRate}, {kube.EgressBandwidth, &want.EgressRate}} {
		text, given := annotations[direction.annotation]
		if !given {
			continue
		}
		rate, err := resource.ParseQuantity(text)
		switch {
		case err != nil:
			problems = append(problems, fmt.Sprintf("annotation %s: %q is no quantity such as 10M, in bits a second", direction.annotation, text))
		case rate.Cmp(leastRate) < 0 || rate.Cmp(mostRate) > 0:
			problems = append(problems, fmt.Sprintf("annotation %s: %s is not %s to %s bits a second", direction.annotation, text, leastRate.String(), mostRate.String()))
		default:
			*direction.into = uint64(rate.Value())
		}
	}
	if len(problems) > 0 || want.GetIngressRate() == 0 && want.GetEgressRate() == 0 {
		return nil, problems
	}
	return want, nil
}
