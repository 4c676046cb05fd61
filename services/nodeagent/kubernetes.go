package nodeagent

import (
	"context"

	"github.com/hashicorp/go-hclog"
	"k8s.io/apimachinery/pkg/types"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/attach"
	"github.com/damask-sdn/damask/services/nodeagent/kube"
)

// joinKubernetes makes the node's part in a cluster, if there is one. The API server need not
// be there, now or ever.
func (a *agent) joinKubernetes(cfg Config, log hclog.Logger) (err error) {
	if !cfg.Kubernetes.Enabled {
		return nil
	}
	if a.objects, err = kube.New(cfg.Kubernetes.api(), kube.Node{Name: cfg.Node, Ready: a.plumbing.readiness, Zone: a.zone.heard}, a.limit, log); err != nil {
		return err
	}
	a.plumbing.changed, a.plumbing.pods.attached = a.objects.ReadinessChanged, a.objects.PodChanged
	return nil
}

// limit bounds a pod: those of before the agent's start as well, which leases tell of.
func (a *agent) limit(ctx context.Context, pod types.NamespacedName, uid types.UID, b *cniv1.Bandwidth) error {
	return a.attachments.SetBandwidth(ctx, attach.Pod{Namespace: pod.Namespace, Name: pod.Name, UID: string(uid)}, b)
}

// followObjects follows the cluster until ctx ends. The node's network goes on without it.
func (a *agent) followObjects(ctx context.Context) error {
	if err := a.objects.Run(ctx); err != nil {
		a.log.Error("objects of Kubernetes are not followed", "error", err)
	}
	return nil
}
