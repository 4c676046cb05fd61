package kube

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
	"github.com/damask-sdn/damask/services/servicelb/server"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

const domain = server.Domain

// ConditionAccepted is the type of the condition of a Service that was refused: False while
// it is, with every reason, and then what was before holds; True afterwards. Of others nothing
// is said, which would be a write for each.
const ConditionAccepted = "damask.io/Accepted"

// Reasons of the condition and of events.
const (
	reasonRefused  = "Refused"
	reasonAccepted = "Accepted"
	reasonAddress  = "LoadBalancerAddress"
)

// show writes into a Service what became of it: the load-balancer addresses that it was
// given, and what is refused.
func (a *Adapter) show(ctx context.Context, s *corev1.Service, stored *servicelbv1.Service, problems string) error {
	status, changed := map[string]any{}, false
	_, pools := a.store.Pooled("")
	given := pools && balances(s)
	if given && stored != nil {
		changed = !shown(s, stored.GetLoadBalancerIps())
		status["loadBalancer"] = map[string]any{"ingress": ingress(stored.GetLoadBalancerIps())}
	}
	want := metav1.Condition{Type: ConditionAccepted, Status: metav1.ConditionTrue, Reason: reasonAccepted, Message: "the service is in force"}
	if problems != "" {
		want.Status, want.Reason, want.Message = metav1.ConditionFalse, reasonRefused, problems
	}
	was := meta.FindStatusCondition(s.Status.Conditions, ConditionAccepted)
	if was != nil || problems != "" {
		next, differs := kube.NextCondition(s, s.Status.Conditions, want)
		c, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&next)
		if err != nil {
			return fmt.Errorf("encode condition %s: %w", next.Type, err)
		}
		status["conditions"], changed = []any{c}, changed || differs
	}
	if !changed {
		return nil
	}
	if err := a.api.ApplyStatus(ctx, s, owner, status); err != nil {
		return err
	}
	switch {
	case problems != "" && (was == nil || was.Message != problems):
		a.api.Event(s, corev1.EventTypeWarning, reasonRefused, problems)
	case problems == "" && given && !shown(s, stored.GetLoadBalancerIps()):
		a.api.Event(s, corev1.EventTypeNormal, reasonAddress, fmt.Sprintf("it is reached by %v", stored.GetLoadBalancerIps()))
	}
	return nil
}

func shown(s *corev1.Service, ips []string) bool {
	return len(s.Status.LoadBalancer.Ingress) == len(ips) && slices.Equal(addressesOf(s), ips)
}

func ingress(ips []string) []any {
	list := make([]any, len(ips))
	for i, ip := range ips {
		list[i] = map[string]any{"ip": ip, "ipMode": string(corev1.LoadBalancerIPModeVIP)}
	}
	return list
}

// slice makes the store have a slice as its object says, or none where there is none. Slices
// of other families than IPv4 are none, and those that are not for the cluster's own proxy.
func (a *Adapter) slice(ctx context.Context, name types.NamespacedName) error {
	stored, err := a.store.Slice(catalog.Name(name))
	if err != nil {
		return err
	}
	s := &discoveryv1.EndpointSlice{}
	var wish *servicelbv1.EndpointSlice
	var v rpcerr.Violations
	switch err := a.api.Client().Get(ctx, name, s); {
	case err == nil && s.AddressType == discoveryv1.AddressTypeIPv4 && !ofOthers(s):
		if wish = sliceOf(s, &v); wish != nil {
			wish = spec.SliceDefaults(wish)
			spec.CheckSlice(wish, &v)
		}
	case err != nil && !apierrors.IsNotFound(err):
		return fmt.Errorf("read EndpointSlice %s: %w", name, err)
	case err != nil && stored != nil:
		if err := a.api.Gone(ctx, s, name); err != nil {
			return err
		}
	}
	if !v.Empty() {
		a.api.Event(s, corev1.EventTypeWarning, reasonRefused, complaints(&v))
		return nil
	}
	if stored != nil && (wish == nil || stored.GetManagedBy() == spec.Manager || stored.GetServiceName() != wish.GetServiceName()) {
		if err := a.removeSlice(ctx, stored); err != nil {
			return fmt.Errorf("delete slice %s: %w", name, err)
		}
		stored = nil
	}
	if wish == nil {
		return nil
	}
	wish.Revision, wish.PodsRevision = stored.GetRevision(), stored.GetPodsRevision()
	if proto.Equal(stored, wish) {
		return nil
	}
	wish.Revision = 0
	if _, err := a.store.PutSlice(ctx, wish, 0); err != nil {
		return fmt.Errorf("store slice %s: %w", name, err)
	}
	return nil
}

// removeSlice removes a slice, also one that the service kept itself before it followed
// Kubernetes.
func (a *Adapter) removeSlice(ctx context.Context, stored *servicelbv1.EndpointSlice) error {
	if stored.GetManagedBy() != spec.Manager {
		return a.store.DeleteSlice(ctx, catalog.Name{Namespace: stored.GetNamespace(), Name: stored.GetName()})
	}
	of := catalog.Name{Namespace: stored.GetNamespace(), Name: stored.GetServiceName()}
	service, err := a.store.Service(of)
	if err != nil {
		return err
	}
	_, _, err = a.store.Manage(ctx, of, service.GetRevision(), func([]*servicelbv1.EndpointSlice) []*servicelbv1.EndpointSlice { return nil }, 0)
	return err
}
