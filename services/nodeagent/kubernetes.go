package nodeagent

import (
	"context"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/services/nodeagent/kube"
)

// joinKubernetes makes the node's part in a cluster, if there is one. The API server need not
// be there, now or ever.
func (a *agent) joinKubernetes(cfg Config, log hclog.Logger) (err error) {
	if !cfg.Kubernetes.Enabled {
		return nil
	}
	if a.objects, err = kube.New(cfg.Kubernetes.api(), cfg.Node, a.plumbing.readiness, log); err != nil {
		return err
	}
	a.plumbing.changed = a.objects.ReadinessChanged
	return nil
}

// followObjects follows the cluster until ctx ends. The node's network goes on without it.
func (a *agent) followObjects(ctx context.Context) error {
	if err := a.objects.Run(ctx); err != nil {
		a.log.Error("objects of Kubernetes are not followed", "error", err)
	}
	return nil
}
