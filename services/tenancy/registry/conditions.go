package registry

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
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
	pod, err := r.amend(ctx, name, sandbox, func(pod *tenancyv1.Pod) (*tenancyv1.Pod, error) {
		next := settle(pod.GetConditions(), given)
		if proto.Equal(next, pod.GetConditions()) {
			return pod, nil
		}
		changed := proto.CloneOf(pod)
		changed.Conditions = next
		return changed, nil
	})
	if err != nil {
		return nil, fmt.Errorf("set conditions of pod %s/%s: %w", name.Namespace, name.Pod, err)
	}
	return pod, nil
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
	if !next.GetCompleted() {
		next.Completed = nil
	}
	if next.Ready == nil && next.Terminating == nil && next.Completed == nil {
		return nil
	}
	return next
}
