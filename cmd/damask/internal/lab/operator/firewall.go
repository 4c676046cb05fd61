package operator

import (
	"context"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// PutEgressNetworkPolicy stores where the pods of a namespace may go.
func (o *Operator) PutEgressNetworkPolicy(ctx context.Context, policy *egressv1.EgressNetworkPolicy) error {
	_, err := egressv1.NewEgressNetworkPolicyServiceClient(o.egress).PutEgressNetworkPolicy(ctx, &egressv1.PutEgressNetworkPolicyRequest{EgressNetworkPolicy: policy})
	return worded(err)
}
