package registry

import (
	"context"
	"fmt"
	"maps"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/catchup"
	"github.com/damask-sdn/damask/services/tenancy/labels"
)

// UpdateLabels changes labels of a pod, and answers it as stored. From then on
// they are what somebody said, and no longer what the agent reports of this
// sandbox. If a sandbox is named, the pod must have it. It fails with
// NotFoundError and labels.TooLargeError.
func (r *Registry) UpdateLabels(ctx context.Context, name Name, sandbox string, change labels.Change) (*tenancyv1.Pod, error) {
	pod, err := r.amend(ctx, name, sandbox, func(pod *tenancyv1.Pod) (*tenancyv1.Pod, error) {
		after, err := change.Apply(pod.GetLabels())
		if err != nil || maps.Equal(after, pod.GetLabels()) {
			return pod, err
		}
		next := proto.CloneOf(pod)
		next.Labels, next.LabelsUpdated = after, true
		return next, nil
	})
	if err != nil {
		return nil, fmt.Errorf("update labels of pod %s/%s: %w", name.Namespace, name.Pod, err)
	}
	return pod, nil
}

// amend changes what is stored of a pod's present sandbox to what next answers,
// if that is anything else.
func (r *Registry) amend(ctx context.Context, name Name, sandbox string, next func(*tenancyv1.Pod) (*tenancyv1.Pod, error)) (*tenancyv1.Pod, error) {
	if err := catchup.Fully(ctx, r.bucket); err != nil {
		return nil, err
	}
	var decided *tenancyv1.Pod
	sequence, err := r.bucket.Update(ctx, func(tx *bucket.Tx) error {
		stored, found, err := Table().Get(tx, name.Namespace, name.Pod)
		if err != nil {
			return err
		}
		if !found || sandbox != "" && stored.GetSandboxId() != sandbox {
			return &NotFoundError{Name: name, Sandbox: sandbox}
		}
		if decided, err = next(stored); err != nil || decided == stored {
			return err
		}
		decided.Revision = 0
		Table().Put(tx, decided, name.Namespace, name.Pod)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if decided.GetRevision() == 0 {
		decided.Revision = r.bucket.RevisionSince(Table().Key(name.Namespace, name.Pod), sequence)
	}
	return decided, nil
}
