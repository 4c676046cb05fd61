package kube

import (
	"context"
	"sync"

	"github.com/hashicorp/go-hclog"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/kube"
)

// owner is who has written a field, as the API server remembers it.
const owner = "damask-nodeagent"

// service is the agent's name in requests and Events.
const service = "nodeagent"

// workers is how many pods are bounded at once.
const workers = 4

// Readiness is how far a node is.
type Readiness struct {
	// Missing is why pods can not be added; empty: they can.
	Missing []string
	// Been says that they could before, since the agent started.
	Been bool
}

// Node is the agent's node, as far as its Node in the cluster goes. The functions are called
// from any goroutine.
type Node struct {
	// Name is the Node's.
	Name string
	// Ready says how far the node is.
	Ready func() Readiness
	// Zone is told of the zone that the Node's label says, again and again; empty: none. It
	// must not wait. nil: nobody asks.
	Zone func(zone string)
}

// Adapter is the agent's part in Kubernetes.
type Adapter struct {
	api    *kube.Adapter
	node   Node
	limit  Limiter
	itself *kube.Feed // of what is different about the node itself

	attached *kube.Feed // of pods that were attached
	refused  sync.Map   // types.NamespacedName to what was told of the Pod's annotations last
	log      hclog.Logger
}

// New returns the adapter of a node's agent. limit is called from any goroutine.
func New(cfg kube.Config, node Node, limit Limiter, log hclog.Logger) (*Adapter, error) {
	api, err := kube.NewOnNode(cfg, service, node.Name, log)
	if err != nil {
		return nil, err
	}
	a := &Adapter{api: api, node: node, limit: limit, log: log.Named("kube")}
	a.itself = kube.NewFeed(func() []types.NamespacedName { return []types.NamespacedName{{Name: node.Name}} })
	// All Pods are looked at when the API server has told of them.
	a.attached = kube.NewFeed(func() []types.NamespacedName { return nil })
	return a, nil
}

// ReadinessChanged says that ready may answer something else. It never waits.
func (a *Adapter) ReadinessChanged() { a.itself.Changed(types.NamespacedName{Name: a.node.Name}) }

// Run follows the cluster until ctx ends. That it cannot changes nothing on the node.
func (a *Adapter) Run(ctx context.Context) error {
	return a.api.RunOnNode(ctx,
		kube.Controller{Name: "node", Kinds: []client.Object{&corev1.Node{}}, Stored: a.itself, Reconcile: a.reconcileNode},
		kube.Controller{Name: "pod", Kinds: []client.Object{&corev1.Pod{}}, Stored: a.attached, Reconcile: a.reconcilePod, Workers: workers},
	)
}
