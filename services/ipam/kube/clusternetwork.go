package kube

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/kube/networkv1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam/plan"
)

// reconcileClusterNetwork brings the object's plan into the store, or makes the object if
// there is only the store's.
func (a *Adapter) reconcileClusterNetwork(ctx context.Context, name types.NamespacedName) error {
	object := &networkv1.ClusterNetwork{}
	err := a.api.Client().Get(ctx, name, object)
	switch {
	case apierrors.IsNotFound(err):
		return a.restoreClusterNetwork(ctx)
	case err != nil:
		return fmt.Errorf("get ClusterNetwork %s: %w", name.Name, err)
	}
	err = a.takePlan(ctx, object)
	if err != nil && !refused(err) {
		return err
	}
	return client.IgnoreNotFound(a.api.SetCondition(ctx, object, owner, object.Status.Conditions, accepted(err)))
}

// takePlan stores the plan of an object.
func (a *Adapter) takePlan(ctx context.Context, object *networkv1.ClusterNetwork) error {
	stored, exists, _, err := a.store.ClusterNetwork(ctx)
	if err != nil {
		return err
	}
	if !exists && a.initial != nil {
		stored = a.initial.Message()
	}
	var wrong problems
	p := plan.Parse(message(object, stored), wrong.addf)
	if err := wrong.err(); err != nil {
		return err
	}
	if exists {
		_, err = a.store.Replace(ctx, p, stored.GetRevision())
	} else {
		_, err = a.store.Create(ctx, p)
	}
	return err
}

// message is an object's plan. What an object can not say stays as it is stored, or as the
// configuration has it: which encapsulation tunnels have, and service networks beside the
// first.
func message(object *networkv1.ClusterNetwork, stored *ipamv1.ClusterNetwork) *ipamv1.ClusterNetwork {
	m := &ipamv1.ClusterNetwork{
		Name: object.Name, ServiceNetworks: []string{object.ServiceNetwork},
		Tunnel: &ipamv1.Tunnel{Type: stored.GetTunnel().GetType()},
	}
	if all := stored.GetServiceNetworks(); len(all) > 1 && all[0] == object.ServiceNetwork {
		m.ServiceNetworks = all
	}
	for _, entry := range object.ClusterNetworks {
		m.Networks = append(m.Networks, &ipamv1.ClusterNetworkEntry{Cidr: entry.CIDR, HostSubnetLength: entry.HostSubnetLength})
	}
	if len(m.Networks) == 0 && object.Network != "" { // As before OpenShift 3.7.
		m.Networks = []*ipamv1.ClusterNetworkEntry{{Cidr: object.Network, HostSubnetLength: object.HostSubnetLength}}
	}
	if object.VXLANPort != nil {
		m.Tunnel.Port = *object.VXLANPort
	}
	if object.MTU != nil {
		m.Mtu = *object.MTU
	}
	return m
}

// restoreClusterNetwork makes the object that the store has a plan for.
func (a *Adapter) restoreClusterNetwork(ctx context.Context) error {
	stored, exists, _, err := a.store.ClusterNetwork(ctx)
	if err != nil || !exists {
		return err
	}
	first := stored.GetNetworks()[0]
	object := &networkv1.ClusterNetwork{
		ObjectMeta: metav1.ObjectMeta{Name: plan.Name},
		Network:    first.GetCidr(), HostSubnetLength: first.GetHostSubnetLength(), ServiceNetwork: stored.GetServiceNetworks()[0],
	}
	for _, n := range stored.GetNetworks() {
		object.ClusterNetworks = append(object.ClusterNetworks, networkv1.ClusterNetworkEntry{CIDR: n.GetCidr(), HostSubnetLength: n.GetHostSubnetLength()})
	}
	if port := stored.GetTunnel().GetPort(); port != 0 {
		object.VXLANPort = &port
	}
	if mtu := stored.GetMtu(); mtu != 0 {
		object.MTU = &mtu
	}
	if err := a.api.Client().Create(ctx, object, client.FieldOwner(owner)); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create ClusterNetwork %s: %w", plan.Name, err)
	}
	return nil
}
