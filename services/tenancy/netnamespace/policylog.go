package netnamespace

import (
	"context"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// SetPolicyLog says which decisions of policies about a namespace's pods nodes log. It
// fails with NotFoundError.
func (s *Store) SetPolicyLog(ctx context.Context, name string, denied, allowed bool) (*tenancyv1.NetNamespace, error) {
	return s.change(ctx, func(l ledger) (*tenancyv1.NetNamespace, error) {
		ns, err := l.require(name)
		if err != nil || ns.GetPolicyLogDenied() == denied && ns.GetPolicyLogAllowed() == allowed {
			return ns, err
		}
		ns.PolicyLogDenied, ns.PolicyLogAllowed = denied, allowed
		return ns, l.write(ns)
	})
}
