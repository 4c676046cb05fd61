package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

// service makes the store have a service as its object says, or none where there is none or
// another proxy has it.
func (a *Adapter) service(ctx context.Context, name types.NamespacedName) error {
	stored, err := a.store.Service(catalog.Name(name))
	if err != nil {
		return err
	}
	s := &corev1.Service{}
	switch err := a.api.Client().Get(ctx, name, s); {
	case apierrors.IsNotFound(err):
		a.wanting.Set(name, false)
		if stored == nil {
			return nil
		}
		if err := a.api.Gone(ctx, s, name); err != nil {
			return err
		}
		if err := a.store.Delete(ctx, catalog.Name(name)); err != nil {
			return fmt.Errorf("delete service %s: %w", name, err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("read Service %s: %w", name, err)
	case ofOthers(s):
		return a.leave(ctx, s, stored)
	}
	wish, problems := a.wish(s, stored)
	if problems == "" {
		stored, problems, err = a.put(ctx, stored, wish)
	}
	if err != nil {
		return fmt.Errorf("store service %s: %w", name, err)
	}
	return a.show(ctx, s, stored, problems)
}

// leave forgets a service that is another proxy's now, and takes back what its object says
// of it: first, since a service that is stored is what a replica that ends here leaves to do.
func (a *Adapter) leave(ctx context.Context, s *corev1.Service, stored *servicelbv1.Service) error {
	name := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
	a.wanting.Set(name, false)
	told := meta.FindStatusCondition(s.Status.Conditions, ConditionAccepted) != nil
	if stored == nil && !told {
		return nil
	}
	if told || len(stored.GetLoadBalancerIps()) > 0 {
		if err := a.api.ApplyStatus(ctx, s, owner, map[string]any{}); err != nil {
			return err
		}
	}
	if stored == nil {
		return nil
	}
	if err := a.store.Delete(ctx, catalog.Name(name)); err != nil {
		return fmt.Errorf("delete service %s, which is another proxy's: %w", name, err)
	}
	return nil
}

// wish answers what a Service asks for, with its defaults, and all that is wrong with it.
func (a *Adapter) wish(s *corev1.Service, stored *servicelbv1.Service) (wish *servicelbv1.Service, problems string) {
	var v rpcerr.Violations
	wish = serviceOf(s, &v)
	if s.Spec.LoadBalancerIP != "" && balances(s) {
		if is, pools := a.store.Pooled(s.Spec.LoadBalancerIP); pools && !is {
			v.Addf("spec.loadBalancerIP", "%s is not of the addresses that are handed out", s.Spec.LoadBalancerIP)
		}
	}
	if _, pools := a.store.Pooled(""); balances(s) && !pools {
		wish.LoadBalancerByOthers, wish.LoadBalancerIps = true, addressesOf(s)
	} else if stored == nil && spec.GetsLoadBalancer(wish) && len(wish.GetLoadBalancerIps()) == 0 {
		wish.LoadBalancerIps = addressesOf(s) // what it had before the store was lost
	}
	wish = spec.Defaults(wish)
	spec.CheckService(wish, &v)
	return wish, complaints(&v)
}

// addressesOf answers the addresses by which a Service is reached through load balancers that
// do not rewrite the destination.
func addressesOf(s *corev1.Service) (ips []string) {
	for _, i := range s.Status.LoadBalancer.Ingress {
		if i.IP != "" && (i.IPMode == nil || *i.IPMode == corev1.LoadBalancerIPModeVIP) {
			ips = append(ips, i.IP)
		}
	}
	return ips
}

// put stores a wish if it differs from what is stored. What the store refuses is answered as
// a text, with what is stored then.
func (a *Adapter) put(ctx context.Context, stored, wish *servicelbv1.Service) (now *servicelbv1.Service, problems string, err error) {
	name := catalog.Name{Namespace: wish.GetNamespace(), Name: wish.GetName()}
	if stored != nil && renewed(stored, wish) {
		// It was deleted and made anew: its slices come back by their own objects.
		if err := a.store.Delete(ctx, name); err != nil {
			return stored, "", err
		}
		stored = nil
	}
	if stored != nil && same(stored, spec.Adopt(stored, wish)) {
		a.wanting.Set(types.NamespacedName(name), false)
		return stored, "", nil
	}
	// Who gives something back while it is asked for must find us wanting.
	a.wanting.Set(types.NamespacedName(name), true)
	if stored == nil {
		now, err = a.store.Create(ctx, wish)
	} else {
		now, err = a.store.Update(ctx, wish, 0)
	}
	var invalid *catalog.InvalidError
	var exhausted *catalog.ExhaustedError
	var taken *catalog.TakenError
	switch {
	case errors.As(err, &exhausted):
		return stored, exhausted.Error(), nil
	case errors.As(err, &taken):
		return stored, fields.Replace(taken.Error()), nil
	}
	a.wanting.Set(types.NamespacedName(name), false)
	switch {
	case err == nil:
		return now, "", nil
	case errors.As(err, &invalid):
		return stored, complaints(&invalid.Violations), nil
	}
	return stored, "", err
}

// renewed says whether a Service is another than the stored one, of the same name.
func renewed(stored, wish *servicelbv1.Service) bool {
	var v rpcerr.Violations
	spec.CheckChange(stored, spec.Adopt(stored, wish), &v)
	return !v.Empty()
}

// same says whether two states of a service differ in nothing but the revision.
func same(a, b *servicelbv1.Service) bool {
	c := proto.CloneOf(a)
	c.Revision = b.GetRevision()
	return proto.Equal(c, b)
}

// adopt brings into a store that was lost the services that have load-balancer addresses,
// before any that have none: each keeps what it had.
func (a *Adapter) adopt(ctx context.Context) error {
	list := &corev1.ServiceList{}
	if err := a.api.Direct().List(ctx, list); err != nil {
		return fmt.Errorf("list Services: %w", err)
	}
	for i := range list.Items {
		s := &list.Items[i]
		stored, err := a.store.Service(catalog.Name{Namespace: s.Namespace, Name: s.Name})
		if err != nil {
			return err
		}
		if stored != nil || ofOthers(s) || !balances(s) || len(addressesOf(s)) == 0 {
			continue
		}
		wish, problems := a.wish(s, nil)
		if problems != "" {
			continue
		}
		if _, _, err := a.put(ctx, nil, wish); err != nil { // what is refused is, in its turn
			return fmt.Errorf("store service %s/%s: %w", s.Namespace, s.Name, err)
		}
	}
	return nil
}

// fields says by which names people know the fields that checks speak of.
var fields = strings.NewReplacer(
	"service.namespace", "metadata.namespace", "service.name", "metadata.name", "service.labels", "metadata.labels", "service.annotations", "metadata.annotations",
	"service.", "spec.", "endpoint_slice.", "", "cluster_ips", "clusterIPs", "external_ips", "externalIPs", "external_name", "externalName",
	"load_balancer_source_ranges", "loadBalancerSourceRanges", "load_balancer_ips", "loadBalancerIP", "allocate_load_balancer_node_ports", "allocateLoadBalancerNodePorts",
	"session_affinity_timeout_seconds", "sessionAffinityConfig.clientIP.timeoutSeconds", "session_affinity", "sessionAffinity", "internal_traffic_policy", "internalTrafficPolicy",
	"external_traffic_policy", "externalTrafficPolicy", "traffic_distribution", "trafficDistribution", "health_check_node_port", "healthCheckNodePort", "node_port", "nodePort",
	"target_port", "targetPort", "app_protocol", "appProtocol", "node_name", "nodeName", "for_zones", "forZones", "for_nodes", "forNodes", "address_type", "addressType",
)

// complaints answers every violation as a sentence, with the fields as objects have them.
func complaints(v *rpcerr.Violations) string {
	var phrases []string
	for _, violation := range rpcerr.List(v.Err(domain)) {
		phrases = append(phrases, fields.Replace(violation.Field)+": "+violation.Reason)
	}
	return strings.Join(slices.Compact(phrases), "; ")
}
