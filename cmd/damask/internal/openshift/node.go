package openshift

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"

	"github.com/damask-sdn/damask/cmd/damask/internal/adopt"
)

const (
	// AgentLabel is the label of a Node that says whose agent runs there. The component
	// deploy/kustomize/takeover has Damask's run where its value is Damask.
	AgentLabel = "damask.io/agent"
	// Damask is its value.
	Damask = "damask"
	// CordonAnnotation is on a Node that was cordoned for a takeover, and on no other: only
	// such a Node is uncordoned afterwards, also by another run.
	CordonAnnotation = "damask.io/cordoned-for-takeover"
)

// Node is a Node, as far as a takeover changes it.
type Node struct {
	// Name of the Node.
	Name string
	// UID of the Node: another machine of the name has another.
	UID string
	// Agent is the value of AgentLabel, empty if there is none.
	Agent string
	// Cordoned says that no pods are scheduled there.
	Cordoned bool
	// CordonedByUs says that a takeover is why.
	CordonedByUs bool

	revision string
}

func nodeOf(object *unstructured.Unstructured) Node {
	n := Node{Name: object.GetName(), UID: string(object.GetUID()), Agent: object.GetLabels()[AgentLabel], revision: object.GetResourceVersion()}
	n.Cordoned, _, _ = unstructured.NestedBool(object.Object, "spec", "unschedulable") // none: it is not
	_, n.CordonedByUs = object.GetAnnotations()[CordonAnnotation]
	return n
}

// Nodes answers all Nodes by name.
func (c *Client) Nodes(ctx context.Context) (map[string]Node, error) {
	all := map[string]Node{}
	options := metav1.ListOptions{Limit: page}
	for {
		list, err := c.api.Resource(nodes).List(ctx, options)
		if err != nil {
			return nil, fmt.Errorf("list nodes at %s: %w", c.server, err)
		}
		for i := range list.Items {
			n := nodeOf(&list.Items[i])
			all[n.Name] = n
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			return all, nil
		}
	}
}

// Again reads what the cluster has of one node by now: the Node, its HostSubnet, and the
// address plan. It answers the Node, and the cluster with these in the place of what it had.
func (c *Client) Again(ctx context.Context, cluster adopt.Cluster, name string) (Node, adopt.Cluster, error) {
	var fresh adopt.Cluster
	var node Node
	for _, k := range kinds {
		object, of := name, k.name
		switch of {
		case "ClusterNetwork":
			object = adopt.PlanName
		case "HostSubnet", "Node":
		default:
			continue
		}
		found, err := c.api.Resource(k.resource).Get(ctx, object, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return Node{}, cluster, fmt.Errorf("there is no %s %s any more", of, object)
		}
		if err != nil {
			return Node{}, cluster, fmt.Errorf("get %s %s: %w", of, object, err)
		}
		if of == "Node" {
			node = nodeOf(found)
		}
		text, err := json.Marshal(essence(k, *found))
		if err != nil {
			return Node{}, cluster, err
		}
		if _, err := fresh.Read(bytes.NewReader(text)); err != nil {
			return Node{}, cluster, fmt.Errorf("%s %s: %w", of, object, err)
		}
	}
	return node, cluster.With(fresh), nil
}

// Take gives a node to Damask's agent, and cordons it if that is wanted and it is not
// cordoned. It is one request: nobody finds half of it. It answers the Node as it is then.
func (c *Client) Take(ctx context.Context, n Node, cordon bool) (Node, error) {
	return c.change(ctx, n, func(n Node) map[string]any {
		metadata := map[string]any{"labels": map[string]any{AgentLabel: Damask}}
		patch := map[string]any{"metadata": metadata}
		switch cordoned := n.Cordoned || !cordon; {
		case cordoned && n.Agent == Damask:
			return nil
		case !cordoned:
			metadata["annotations"] = map[string]any{CordonAnnotation: ""}
			patch["spec"] = map[string]any{"unschedulable": true}
		}
		return patch
	})
}

// Uncordon lets pods be scheduled again on a node that Take cordoned; on any other it
// changes nothing.
func (c *Client) Uncordon(ctx context.Context, n Node) (Node, error) {
	return c.change(ctx, n, func(n Node) map[string]any {
		if !n.CordonedByUs {
			return nil
		}
		return map[string]any{
			"metadata": map[string]any{"annotations": map[string]any{CordonAnnotation: nil}},
			"spec":     map[string]any{"unschedulable": nil},
		}
	})
}

// change patches a Node as decide says of what it is at that moment. A Node that is another
// by now is refused.
func (c *Client) change(ctx context.Context, n Node, decide func(Node) map[string]any) (Node, error) {
	now := n
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		object, err := c.api.Resource(nodes).Get(ctx, n.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if now = nodeOf(object); now.UID != n.UID {
			return errors.New("it is another machine by now")
		}
		patch := decide(now)
		if patch == nil {
			return nil
		}
		// Somebody else's change in between is a conflict.
		patch["metadata"].(map[string]any)["resourceVersion"] = now.revision
		text, err := json.Marshal(patch)
		if err != nil {
			return err
		}
		if object, err = c.api.Resource(nodes).Patch(ctx, n.Name, types.MergePatchType, text, metav1.PatchOptions{FieldManager: "damask-adopt"}); err == nil {
			now = nodeOf(object)
		}
		return err
	})
	if err != nil {
		return now, fmt.Errorf("change Node %s: %w", n.Name, err)
	}
	return now, nil
}

var reviews = schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "selfsubjectaccessreviews"}

// MayChange answers an error that names everything which the user may not do of what Again,
// Take and Uncordon do.
func (c *Client) MayChange(ctx context.Context) error {
	var problems []error
	for _, need := range []struct {
		kind  kind
		verbs []string
	}{{kinds[0], []string{"get"}}, {kinds[1], []string{"get"}}, {kind{"Node", nodes}, []string{"get", "patch"}}} {
		var lacking []string
		for _, verb := range need.verbs {
			allowed, err := c.may(ctx, verb, need.kind.resource)
			if err != nil {
				return fmt.Errorf("ask %s what this user may do: %w", c.server, err)
			}
			if !allowed {
				lacking = append(lacking, verb)
			}
		}
		if len(lacking) > 0 {
			problems = append(problems, errors.New(rules([]kind{need.kind}, lacking...)))
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("nodes may not be changed: it takes a ClusterRole with the rules\n%w", errors.Join(problems...))
}

func (c *Client) may(ctx context.Context, verb string, of schema.GroupVersionResource) (bool, error) {
	review := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": reviews.GroupVersion().String(), "kind": "SelfSubjectAccessReview",
		"spec": map[string]any{"resourceAttributes": map[string]any{"group": of.Group, "resource": of.Resource, "verb": verb}},
	}}
	answer, err := c.api.Resource(reviews).Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	allowed, _, err := unstructured.NestedBool(answer.Object, "status", "allowed")
	return allowed, err
}
