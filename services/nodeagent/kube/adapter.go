package kube

import (
	"context"

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

// Readiness is how far a node is.
type Readiness struct {
	// Missing is why pods can not be added; empty: they can.
	Missing []string
	// Been says that they could before, since the agent started.
	Been bool
}

// Adapter is the agent's part in Kubernetes.
type Adapter struct {
	api    *kube.Adapter
	node   string
	ready  func() Readiness
	itself *kube.Feed // of what is different about the node itself
	log    hclog.Logger
}

// New returns the adapter of a node's agent. ready is called from any goroutine.
func New(cfg kube.Config, node string, ready func() Readiness, log hclog.Logger) (*Adapter, error) {
	api, err := kube.NewOnNode(cfg, service, node, log)
	if err != nil {
		return nil, err
	}
	a := &Adapter{api: api, node: node, ready: ready, log: log.Named("kube")}
	a.itself = kube.NewFeed(func() []types.NamespacedName { return []types.NamespacedName{{Name: node}} })
	return a, nil
}

// ReadinessChanged says that ready may answer something else. It never waits.
func (a *Adapter) ReadinessChanged() { a.itself.Changed(types.NamespacedName{Name: a.node}) }

// Run follows the cluster until ctx ends. That it cannot changes nothing on the node.
func (a *Adapter) Run(ctx context.Context) error {
	return a.api.RunOnNode(ctx, kube.Controller{
		Name: "node", Kinds: []client.Object{&corev1.Node{}}, Stored: a.itself, Reconcile: a.reconcileNode,
	})
}
