package nodeagent

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/damask-sdn/damask/internal/rpcerr"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
)

// Where policies decide, a new pod is closed until those that apply to it are in force,
// and ADD answers then. Tenancy says which they are, when it has heard of the pod: so it
// is told before the pod is attached. While tenancy does not answer, what this node knows
// decides: the pod gets the policies of a pod of its namespace that has, or had, exactly
// its labels, since selectors see nothing else. If there is none, ADD is refused, and
// the runtime tries again.

// admit waits until a pod's policies are in force.
func (p *pods) admit(ctx context.Context, a *cniv1.Attachment, pod intent.Pod) error {
	if !p.state.PoliciesDecide() {
		p.policies.remember(a)
		return nil
	}
	p.mu.Lock()
	p.admitted[sandboxOf(a)] = true
	p.mu.Unlock()
	p.reporter.Changed()
	waiting, cancel := context.WithTimeout(ctx, arrival)
	err := p.state.AwaitPolicies(waiting, pod)
	cancel()
	if err != nil && ctx.Err() == nil {
		err = p.assume(ctx, a, pod)
	}
	if err != nil {
		return rpcerr.New(codes.FailedPrecondition, "node.damask", "UNKNOWN_POLICIES",
			fmt.Sprintf("the policies of pod %s/%s were not in force within %s, and no pod of its namespace on this node has its labels: %v",
				pod.Namespace, pod.Name, arrival, err), nil)
	}
	p.policies.remember(a)
	return nil
}

// assume gives a pod the policies of one with its labels. They are in force already, or
// no more than a moment away.
func (p *pods) assume(ctx context.Context, a *cniv1.Attachment, pod intent.Pod) error {
	change, err := p.state.AssumePolicies(pod, namedPorts(a.GetPorts()), p.policies.like(a))
	if err != nil {
		return err
	}
	p.log.Warn("tenancy does not say which policies apply to a pod, it gets those of one with its labels", "namespace", pod.Namespace, "pod", pod.Name)
	p.policies.queue(change)
	p.policies.podsChanged()
	ctx, cancel := context.WithTimeout(ctx, arrival)
	defer cancel()
	return p.state.AwaitPolicies(ctx, pod)
}

func sandboxOf(a *cniv1.Attachment) [2]string { return [2]string{a.GetContainerId(), a.GetIfname()} }

// isAdmitted says whether the registry is to be told of a pod that is not attached yet.
func (p *pods) isAdmitted(a *cniv1.Attachment) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.admitted[sandboxOf(a)]
}

// settled says that a pod is attached, or gone.
func (p *pods) settled(a *cniv1.Attachment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.admitted, sandboxOf(a))
}
