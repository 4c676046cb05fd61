package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Taint is the key of the taint with which a kubelet registers its Node
// (--register-with-taints), so that no pod is sent there before Damask is. Any effect will do.
const Taint = "damask.io/not-ready"

// Reasons of the condition NetworkUnavailable.
const (
	reasonReady    = "DamaskIsReady"
	reasonNotReady = "DamaskIsNotReady"
)

// maxMessage is how long a condition's message is at most, in bytes: the rest can be read on
// the node.
const maxMessage = 1024

// reconcileNode makes the Node say how far it is, and tells of what the Node says. A Node that is not there yet will be:
// its kubelet registers it.
func (a *Adapter) reconcileNode(ctx context.Context, name types.NamespacedName) error {
	node := &corev1.Node{}
	if err := a.api.Client().Get(ctx, name, node); err != nil {
		return client.IgnoreNotFound(err)
	}
	if a.node.Zone != nil {
		a.node.Zone(node.Labels[corev1.LabelTopologyZone])
	}
	ready := a.node.Ready()
	_, tell := next(networkUnavailable(node), ready)
	untaint := len(ready.Missing) == 0 && withoutTaints(node) != nil
	if !tell && !untaint {
		return nil
	}
	// The cache may not have what was written a moment ago, or while the API server was away.
	if err := a.api.Direct().Get(ctx, name, node); err != nil {
		return client.IgnoreNotFound(err)
	}
	if err := a.tell(ctx, node, ready); err != nil || !untaint {
		return client.IgnoreNotFound(err)
	}
	return client.IgnoreNotFound(a.untaint(ctx, node))
}

// tell writes the condition, if it is to be another.
func (a *Adapter) tell(ctx context.Context, node *corev1.Node, ready Readiness) error {
	has := networkUnavailable(node)
	want, write := next(has, ready)
	if !write {
		return nil
	}
	now := metav1.Now()
	want.LastHeartbeatTime, want.LastTransitionTime = now, now
	if has != nil && has.Status == want.Status {
		want.LastTransitionTime = has.LastTransitionTime
	}
	condition, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&want)
	if err != nil {
		return fmt.Errorf("encode condition %s: %w", want.Type, err)
	}
	if err := a.api.ApplyStatus(ctx, node, owner, map[string]any{"conditions": []any{condition}}); err != nil {
		return err
	}
	a.log.Info("told Kubernetes how far the node is", "network_unavailable", string(want.Status), "message", want.Message)
	return nil
}

// networkUnavailable is the condition that a Node has; nil: none.
func networkUnavailable(node *corev1.Node) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeNetworkUnavailable {
			return c
		}
	}
	return nil
}

// next answers the condition that a Node is to have, and whether it has another. A node that
// has worked, by what it says or by what the agent has seen, keeps what it has: its pods do.
func next(has *corev1.NodeCondition, ready Readiness) (want corev1.NodeCondition, write bool) {
	want = corev1.NodeCondition{
		Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse, Reason: reasonReady, Message: "Damask adds pods on this node",
	}
	if len(ready.Missing) > 0 {
		if ready.Been || has != nil && has.Status == corev1.ConditionFalse {
			return corev1.NodeCondition{}, false
		}
		want.Status, want.Reason, want.Message = corev1.ConditionTrue, reasonNotReady, missing(ready)
	}
	same := has != nil && has.Status == want.Status && has.Reason == want.Reason && has.Message == want.Message
	return want, !same
}

// missing says in one line why pods can not be added.
func missing(ready Readiness) string {
	text := strings.ToValidUTF8("missing: "+strings.Join(ready.Missing, "; "), "?")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage-3], "") + "..."
	}
	return text
}

// change is one of a JSON patch (RFC 6902).
type change struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// untaint takes our taints away and no other. Taints are a list without keys, which others
// write too: the patch holds only if ours is where it was, on the Node that it was on.
func (a *Adapter) untaint(ctx context.Context, node *corev1.Node) error {
	changes := withoutTaints(node)
	if changes == nil {
		return nil
	}
	patch, err := json.Marshal(changes)
	if err != nil {
		return fmt.Errorf("encode a patch of Node %s: %w", node.Name, err)
	}
	to := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name}}
	if err := a.api.Client().Patch(ctx, to, client.RawPatch(types.JSONPatchType, patch), client.FieldOwner(owner)); err != nil {
		return fmt.Errorf("take taint %s from Node %s: %w", Taint, node.Name, err)
	}
	a.log.Info("took the taint away", "taint", Taint)
	return nil
}

// withoutTaints is what takes our taints from a Node; nil: it has none.
func withoutTaints(node *corev1.Node) []change {
	var changes []change
	for i, taint := range slices.Backward(node.Spec.Taints) { // what is removed moves what follows
		if taint.Key != Taint {
			continue
		}
		path := fmt.Sprintf("/spec/taints/%d", i)
		changes = append(changes, change{Op: "test", Path: path, Value: taint}, change{Op: "remove", Path: path})
	}
	if changes == nil {
		return nil
	}
	return append([]change{{Op: "test", Path: "/metadata/uid", Value: node.UID}}, changes...)
}
