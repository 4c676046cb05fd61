package kube

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/kube/networkv1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam/allocation"
)

// nodeView is everything that there is under a node's name; nil: it is not there.
type nodeView struct {
	name   string
	node   *corev1.Node
	object *networkv1.HostSubnet
	stored *ipamv1.HostSubnet
}

// look reads all three. The object is read from the API server when the cache has none: it may
// have been written a moment ago.
func (a *Adapter) look(ctx context.Context, name string) (*nodeView, error) {
	v := &nodeView{name: name, node: &corev1.Node{}, object: &networkv1.HostSubnet{}}
	key := client.ObjectKey{Name: name}
	switch err := a.api.Client().Get(ctx, key, v.node); {
	case apierrors.IsNotFound(err):
		v.node = nil
	case err != nil:
		return nil, fmt.Errorf("get Node %s: %w", name, err)
	}
	err := a.api.Client().Get(ctx, key, v.object)
	if apierrors.IsNotFound(err) {
		err = a.api.Direct().Get(ctx, key, v.object)
	}
	switch {
	case apierrors.IsNotFound(err):
		v.object = nil
	case err != nil:
		return nil, fmt.Errorf("get HostSubnet %s: %w", name, err)
	}
	stored, exists, err := a.store.HostSubnet(ctx, name)
	if exists {
		v.stored = stored
	}
	return v, err
}

// byHand says whether a person made the HostSubnet, for a host that is no Node.
func byHand(h *networkv1.HostSubnet) bool {
	return h != nil && h.Annotations[networkv1.AnnotationNodeUID] == ""
}

// reconcileHostSubnet makes what there is under a node's name agree.
func (a *Adapter) reconcileHostSubnet(ctx context.Context, name types.NamespacedName) error {
	v, err := a.look(ctx, name.Name)
	if err != nil {
		return err
	}
	if v.node == nil && !byHand(v.object) {
		a.waiting.Set(name, false)
		return a.release(ctx, v)
	}
	if v.another() {
		return a.renew(ctx, v)
	}
	if v.stored == nil {
		a.waiting.Set(name, true) // Before, so that no change is missed.
		if v.stored, err = a.register(ctx, v); err != nil {
			return a.refuse(ctx, v, err)
		}
	}
	a.waiting.Set(name, false)
	return a.publish(ctx, v)
}

// another says whether the object was made for another Node of this name. A machine that was
// registered anew is still the one whose agent has the subnet.
func (v *nodeView) another() bool {
	if v.node == nil || v.object == nil || byHand(v.object) || v.object.Annotations[networkv1.AnnotationNodeUID] == string(v.node.UID) {
		return false
	}
	machine := v.stored.GetNodeUid()
	return !v.agrees() || machine == "" || machine != string(v.node.UID) && machine != v.node.Status.NodeInfo.MachineID
}

// agrees says whether the store has the subnet that the object says.
func (v *nodeView) agrees() bool {
	return v.stored != nil && v.object != nil && v.stored.GetSubnets()[0] == v.object.Subnet
}

// renew forgets the Node that was there before under this name, and its object, with what
// people wished for it. What there is now is made when the cache shows that.
func (a *Adapter) renew(ctx context.Context, v *nodeView) error {
	if fresh, err := a.api.Fresh(ctx, v.node, v.object); err != nil || !fresh {
		return err
	}
	if v.agrees() {
		if err := a.store.Release(ctx, v.name, v.stored.GetNodeUid()); err != nil {
			return fmt.Errorf("release the subnet of node %s: %w", v.name, err)
		}
		a.log.Info("released the subnet of a node whose name another one has", "node", v.name, "subnets", v.stored.GetSubnets())
	}
	return a.remove(ctx, v)
}

// release forgets a node that Kubernetes has no more, and then its object, so that an end in
// between is found again.
func (a *Adapter) release(ctx context.Context, v *nodeView) error {
	if v.stored == nil && v.object == nil {
		return nil
	}
	if err := a.api.Gone(ctx, &corev1.Node{}, client.ObjectKey{Name: v.name}); err != nil {
		return err
	}
	if v.stored != nil {
		if err := a.store.Release(ctx, v.name, ""); err != nil {
			return fmt.Errorf("release the subnet of node %s: %w", v.name, err)
		}
		a.log.Info("released the subnet of a node that is gone", "node", v.name, "subnets", v.stored.GetSubnets())
	}
	if v.object == nil {
		return nil
	}
	return a.remove(ctx, v)
}

func (a *Adapter) remove(ctx context.Context, v *nodeView) error {
	err := a.api.Client().Delete(ctx, v.object, client.Preconditions{UID: &v.object.UID})
	if err := client.IgnoreNotFound(err); err != nil {
		return fmt.Errorf("delete HostSubnet %s: %w", v.name, err)
	}
	return nil
}

// register has the store expect a node.
func (a *Adapter) register(ctx context.Context, v *nodeView) (*ipamv1.HostSubnet, error) {
	if v.object != nil && v.object.Subnet != "" {
		if err := a.expect(ctx, v.object); err != nil {
			return nil, err
		}
		stored, _, err := a.store.HostSubnet(ctx, v.name)
		return stored, err
	}
	registration := allocation.Registration{Node: v.name}
	if v.node == nil {
		return nil, &invalid{"subnet: is required where there is no Node"}
	}
	ip, err := addressOf(v.node)
	if err != nil {
		return nil, err
	}
	registration.HostIPs = []netip.Addr{ip}
	return a.store.Register(ctx, registration, time.Now())
}

// expect has the store know what an object says that a node has.
func (a *Adapter) expect(ctx context.Context, h *networkv1.HostSubnet) error {
	if h.Subnet == "" {
		return nil // The Node asks for one.
	}
	var wrong problems
	ip, err := netip.ParseAddr(h.HostIP)
	if err != nil || !ip.Is4() {
		wrong.addf("hostIP", "%q is no IPv4 address", h.HostIP)
	}
	subnet, err := netip.ParsePrefix(h.Subnet)
	if err != nil || !subnet.Addr().Is4() || subnet != subnet.Masked() {
		wrong.addf("subnet", "%q is no canonical IPv4 range", h.Subnet)
	}
	if err := wrong.err(); err != nil {
		return err
	}
	_, err = a.store.Register(ctx, allocation.Registration{Node: h.Name, HostIPs: []netip.Addr{ip}, Wish: []netip.Prefix{subnet}}, time.Now())
	return err
}

// refuse says on the object, or if there is none on the Node, why the node has no subnet. What
// may pass by itself is tried again.
func (a *Adapter) refuse(ctx context.Context, v *nodeView, why error) error {
	if !refused(why) {
		return why
	}
	if v.object != nil {
		return a.api.SetCondition(ctx, v.object, owner, v.object.Status.Conditions, accepted(why))
	}
	a.api.Event(v.node, corev1.EventTypeWarning, accepted(why).Reason, why.Error())
	return nil
}

// publish makes the object say what the store has.
func (a *Adapter) publish(ctx context.Context, v *nodeView) error {
	want := map[string]any{"host": v.name, "hostIP": v.stored.GetHostIps()[0], "subnet": v.stored.GetSubnets()[0]}
	if v.object == nil {
		return a.create(ctx, v)
	}
	o := v.object
	stale := o.Host != want["host"] || o.HostIP != want["hostIP"] || o.Subnet != want["subnet"]
	if v.node != nil && o.Annotations[networkv1.AnnotationNodeUID] != string(v.node.UID) {
		stale = true
		want["metadata"] = map[string]any{"annotations": map[string]any{networkv1.AnnotationNodeUID: string(v.node.UID)}}
	}
	if stale {
		if err := a.api.Apply(ctx, o, owner, want); err != nil {
			return client.IgnoreNotFound(err)
		}
	}
	return client.IgnoreNotFound(a.api.SetCondition(ctx, o, owner, o.Status.Conditions, accepted(nil)))
}

// create makes the object of a node. Its condition comes when it is seen in the cache.
func (a *Adapter) create(ctx context.Context, v *nodeView) error {
	o := &networkv1.HostSubnet{
		ObjectMeta: metav1.ObjectMeta{Name: v.name, Annotations: map[string]string{networkv1.AnnotationNodeUID: string(v.node.UID)}},
		Host:       v.name, HostIP: v.stored.GetHostIps()[0], Subnet: v.stored.GetSubnets()[0],
	}
	err := a.api.Client().Create(ctx, o, client.FieldOwner(owner))
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create HostSubnet %s: %w", v.name, err)
	}
	return nil
}
