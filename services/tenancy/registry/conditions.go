package registry

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/catchup"
)

// NotFoundError says that there is no such pod, or not the sandbox that was
// meant.
type NotFoundError struct {
	Name    Name
	Sandbox string // that was meant; empty: any
}

func (e *NotFoundError) Error() string {
	if e.Sandbox == "" {
		return fmt.Sprintf("there is no pod %s/%s", e.Name.Namespace, e.Name.Pod)
	}
	return fmt.Sprintf("there is no pod %s/%s with sandbox %s", e.Name.Namespace, e.Name.Pod, e.Sandbox)
}

// SetConditions says how a pod is, and answers it as stored. What given leaves
// open stays. It holds for the pod's present sandbox; if one is named, the pod
// must have it. It fails with NotFoundError.
func (r *Registry) SetConditions(ctx context.Context, name Name, sandbox string, given *tenancyv1.PodConditions) (*tenancyv1.Pod, error) {
	if err := catchup.Fully(ctx, r.bucket); err != nil {
		return nil, fmt.Errorf("set conditions of pod %s/%s: %w", name.Namespace, name.Pod, err)
	}
	var decided *tenancyv1.Pod
	sequence, err := r.bucket.Update(ctx, func(tx *bucket.Tx) error {
		stored, found, err := table().Get(tx, name.Namespace, name.Pod)
		if err != nil {
			return err
		}
		if !found || sandbox != "" && stored.GetSandboxId() != sandbox {
			return &NotFoundError{Name: name, Sandbox: sandbox}
		}
		decided = stored
		next := settle(stored.GetConditions(), given)
		if proto.Equal(next, stored.GetConditions()) {
			return nil
		}
		decided = proto.CloneOf(stored)
		decided.Conditions, decided.Revision = next, 0
		table().Put(tx, decided, name.Namespace, name.Pod)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("set conditions of pod %s/%s: %w", name.Namespace, name.Pod, err)
	}
	if decided.GetRevision() == 0 {
		decided.Revision = r.bucket.RevisionSince(table().Key(name.Namespace, name.Pod), sequence)
	}
	return decided, nil
}

// settle answers the conditions after some were given. What is as if nothing
// had been said is not stored, so that saying it changes nothing.
func settle(stored, given *tenancyv1.PodConditions) *tenancyv1.PodConditions {
	next := proto.CloneOf(stored)
	if next == nil {
		next = &tenancyv1.PodConditions{}
	}
	proto.Merge(next, given)
	if next.GetReady() {
		next.Ready = nil
	}
	if !next.GetTerminating() {
		next.Terminating = nil
	}
	if next.Ready == nil && next.Terminating == nil {
		return nil
	}
	return next
}
