package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/damask-sdn/damask/internal/kube/networkv1"
	"github.com/damask-sdn/damask/internal/rpcerr"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/spec"
	"github.com/damask-sdn/damask/services/egress/store"
)

// hostSubnet makes one HostSubnet and what its node may host agree.
func (a *Adapter) hostSubnet(ctx context.Context, name types.NamespacedName) error {
	stored, _, err := store.HostSubnets().Get(a.bucket, name.Name)
	if err != nil {
		return err
	}
	h := &networkv1.HostSubnet{}
	switch err := a.api.Client().Get(ctx, name, h); {
	case apierrors.IsNotFound(err):
		return a.noHostSubnet(ctx, name.Name, stored)
	case err != nil:
		return fmt.Errorf("read HostSubnet %s: %w", name.Name, err)
	}
	says, offers := len(h.EgressIPs)+len(h.EgressCIDRs) > 0, len(stored.GetEgressIps())+len(stored.GetEgressCidrs()) > 0
	uid := h.Annotations[networkv1.AnnotationNodeUID]
	switch marked := meta.FindStatusCondition(h.Status.Conditions, ConditionEgressIPs) != nil; {
	case !says && offers && !marked && a.another(node(h.Name), uid):
		fresh, err := a.api.Fresh(ctx, h)
		if err != nil || !fresh {
			return err
		}
		return a.hostsNothing(ctx, h.Name, stored) // And then it is looked at again.
	case !says && offers && !marked:
		return a.restore(ctx, h, map[string]any{"egressIPs": stored.GetEgressIps(), "egressCIDRs": stored.GetEgressCidrs()})
	case !says && !offers:
		return a.api.RemoveCondition(ctx, h, owner, h.Status.Conditions, ConditionEgressIPs)
	}
	if err := a.remember(ctx, node(h.Name), uid); err != nil {
		return err
	}
	offer := offerOf(h, stored)
	var v rpcerr.Violations
	if spec.CheckHostSubnet(offer, &v); !v.Empty() {
		return a.say(ctx, h, h.Status.Conditions, condition(ConditionEgressIPs, metav1.ConditionFalse, reasonRefused, complaints(&v)))
	}
	if !proto.Equal(offer, stored) {
		if err := a.mark(ctx, h, h.Status.Conditions); err != nil {
			return err
		}
		if _, err := a.store.SetHostSubnet(ctx, offer); err != nil {
			return fmt.Errorf("store what node %s may host: %w", h.Name, err)
		}
	}
	return a.showHost(ctx, h, offer)
}

// noHostSubnet is for a HostSubnet that is not there.
func (a *Adapter) noHostSubnet(ctx context.Context, name string, stored *egressv1.HostSubnetEgress) error {
	if len(stored.GetEgressIps())+len(stored.GetEgressCidrs()) == 0 && stored.GetCapacity() == 0 {
		return a.forget(ctx, node(name))
	}
	if err := a.without(ctx, &corev1.Node{}, node(name)); err != nil {
		return err
	}
	return a.hostsNothing(ctx, name, stored)
}

// hostsNothing forgets what was wished for a node.
func (a *Adapter) hostsNothing(ctx context.Context, name string, stored *egressv1.HostSubnetEgress) error {
	if _, err := a.store.SetHostSubnet(ctx, &egressv1.HostSubnetEgress{Node: name, Revision: stored.GetRevision()}); err != nil {
		return fmt.Errorf("store that node %s hosts nothing: %w", name, err)
	}
	return a.forget(ctx, node(name))
}

// showHost writes into a HostSubnet what its node hosts, and how it does.
func (a *Adapter) showHost(ctx context.Context, h *networkv1.HostSubnet, offer *egressv1.HostSubnetEgress) error {
	hosting, _, err := store.Hostings().Get(a.bucket, h.Name)
	if err != nil {
		return err
	}
	ips := make([]string, 0, len(hosting.GetAddresses()))
	for _, address := range hosting.GetAddresses() {
		ips = append(ips, address.GetIp())
	}
	if len(h.EgressCIDRs) > 0 && !slices.Equal(texts(h.EgressIPs), ips) {
		list := make([]any, len(ips))
		for i, ip := range ips {
			list[i] = ip
		}
		if err := a.api.Apply(ctx, h, owner, map[string]any{"egressIPs": list}); err != nil {
			return err
		}
	}
	host, _, err := store.Nodes().Get(a.bucket, h.Name)
	if err != nil {
		return err
	}
	return a.say(ctx, h, h.Status.Conditions, hostCondition(offer, host, ips))
}

// hostCondition says whether a node can host, and what it does. node is nil if it never said
// where it is.
func hostCondition(offer *egressv1.HostSubnetEgress, node *egressv1.EgressNode, ips []string) metav1.Condition {
	no := func(reason, message string) metav1.Condition {
		return condition(ConditionEgressIPs, metav1.ConditionFalse, reason, message)
	}
	switch {
	case offer.GetDrained():
		return no(reasonDrained, "the node is drained: its addresses are hosted by others that may")
	case len(node.GetNetworks()) == 0:
		return no(reasonNetworkUnknown, "the node has not told which network it is in")
	case node.GetHealth() == egressv1.NodeHealth_NODE_HEALTH_DOWN:
		return no(reasonDown, "the node does not answer over the overlay")
	case node.GetHealth() == egressv1.NodeHealth_NODE_HEALTH_RETURNING:
		return no(reasonReturning, "the node answers again, and not for long enough yet")
	}
	message := "the node hosts nothing now"
	if len(ips) > 0 {
		message = "the node hosts " + strings.Join(ips, ", ")
	}
	return condition(ConditionEgressIPs, metav1.ConditionTrue, reasonReady, message)
}
