package kube

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/kube"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/labels"
	"github.com/damask-sdn/damask/services/tenancy/registry"
)

// labels brings what changes of Pods to the pods that agents registered, and to the registry
// the Pods of nodes that have none.
func (a *Adapter) labels() kube.Controller {
	return kube.Controller{
		Name: "pods", Kinds: []client.Object{&corev1.Pod{}}, Stored: a.stored.pods, Reconcile: a.reconcilePod, Workers: namespaceWorkers,
	}
}

// reconcilePod looks at one pod. What an agent registered, and has no Pod any more, ends with
// its node's report.
func (a *Adapter) reconcilePod(ctx context.Context, of types.NamespacedName) error {
	name := registry.Name{Namespace: of.Namespace, Pod: of.Name}
	stored, found, err := registry.Table().Get(a.store.Bucket, name.Namespace, name.Pod)
	switch {
	case err != nil:
		return err
	case !found:
		return a.reconcileForeign(ctx, of, nil)
	case registry.IsForeign(stored):
		return a.reconcileForeign(ctx, of, stored)
	}
	pod := &corev1.Pod{}
	if err := a.kube.Client().Get(ctx, of, pod); apierrors.IsNotFound(err) {
		return nil
	} else if err != nil {
		return fmt.Errorf("read Pod %s: %w", of, err)
	}
	if !isOf(stored, pod) {
		return nil
	}
	return errors.Join(a.relabel(ctx, name, stored, pod), a.complete(ctx, name, stored, pod))
}

func (a *Adapter) relabel(ctx context.Context, name registry.Name, stored *tenancyv1.Pod, pod *corev1.Pod) error {
	change, any := labelChange(stored.GetLabels(), pod.Labels)
	if !any {
		return nil
	}
	_, err := a.store.Pods.UpdateLabels(ctx, name, stored.GetSandboxId(), change)
	var tooLarge *labels.TooLargeError
	if errors.As(err, &tooLarge) {
		a.kube.Event(pod, corev1.EventTypeWarning, "TooLarge", "the labels of before hold: "+tooLarge.Error())
		return nil
	}
	return unlessGone(err)
}

func (a *Adapter) complete(ctx context.Context, name registry.Name, stored *tenancyv1.Pod, pod *corev1.Pod) error {
	ended := hasEnded(pod)
	if ended == stored.GetConditions().GetCompleted() {
		return nil
	}
	_, err := a.store.Pods.SetConditions(ctx, name, stored.GetSandboxId(), &tenancyv1.PodConditions{Completed: proto.Bool(ended)})
	return unlessGone(err)
}

// unlessGone is an error, but for that of a sandbox that is not there any more: another
// one is looked at when it is registered.
func unlessGone(err error) error {
	var gone *registry.NotFoundError
	if errors.As(err, &gone) {
		return nil
	}
	return err
}
