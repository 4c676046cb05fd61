package server

import (
	"context"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	"github.com/damask-sdn/damask/internal/rpcerr"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/catchup"
	"github.com/damask-sdn/damask/services/tenancy/explain"
	"github.com/damask-sdn/damask/services/tenancy/isolation"
	"github.com/damask-sdn/damask/services/tenancy/policystore"
	"github.com/damask-sdn/damask/services/tenancy/resolution"
)

// networkPolicies answers NetworkPolicyService.
type networkPolicies struct {
	tenancyv1.UnsafeNetworkPolicyServiceServer

	bucket *bucket.Bucket
	store  *policystore.Store
	waiter *resolution.Waiter
	fail   failures
	log    hclog.Logger
}

func (s *networkPolicies) ApplyNetworkPolicy(ctx context.Context, r *tenancyv1.ApplyNetworkPolicyRequest) (*tenancyv1.ApplyNetworkPolicyResponse, error) {
	if r.GetManifest() == "" {
		var v rpcerr.Violations
		v.Addf("manifest", "is required")
		return nil, v.Err(Domain)
	}
	p, err := s.store.Apply(ctx, r.GetManifest())
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.log.Debug("policy applied", "policy", policywire.KeyOf(p.GetKey()).String(), "revision", p.GetRevision())
	return &tenancyv1.ApplyNetworkPolicyResponse{NetworkPolicy: p}, nil
}

func (s *networkPolicies) DeleteNetworkPolicy(ctx context.Context, r *tenancyv1.DeleteNetworkPolicyRequest) (*tenancyv1.DeleteNetworkPolicyResponse, error) {
	key, err := parsePolicyKey(r.GetKey())
	if err != nil {
		return nil, err
	}
	revision, err := s.store.Delete(ctx, key)
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.log.Debug("policy deleted", "policy", key.String(), "revision", revision)
	return &tenancyv1.DeleteNetworkPolicyResponse{Revision: revision}, nil
}

func (s *networkPolicies) GetNetworkPolicy(ctx context.Context, r *tenancyv1.GetNetworkPolicyRequest) (*tenancyv1.GetNetworkPolicyResponse, error) {
	key, err := parsePolicyKey(r.GetKey())
	if err != nil {
		return nil, err
	}
	if err := catchup.IfPossible(ctx, s.bucket); err != nil {
		return nil, s.fail.status(err)
	}
	p, err := s.store.Get(key)
	if err != nil {
		return nil, s.fail.status(err)
	}
	if err := s.addStatus(p); err != nil {
		return nil, err
	}
	return &tenancyv1.GetNetworkPolicyResponse{NetworkPolicy: p}, nil
}

func (s *networkPolicies) ListNetworkPolicies(ctx context.Context, r *tenancyv1.ListNetworkPoliciesRequest) (*tenancyv1.ListNetworkPoliciesResponse, error) {
	p, err := parsePolicyPage(r)
	if err != nil {
		return nil, err
	}
	if err := freshForOperators(ctx, s.bucket); err != nil {
		return nil, s.fail.status(err)
	}
	page, err := s.store.List(r.GetNamespace(), p.after, p.size)
	if err != nil {
		return nil, err
	}
	for _, p := range page.Objects {
		if err := s.addStatus(p); err != nil {
			return nil, err
		}
	}
	return &tenancyv1.ListNetworkPoliciesResponse{
		NetworkPolicies: page.Objects, NextPageToken: token(page.Next), Sequence: page.Sequence,
	}, nil
}

// addStatus fills in how far a policy is.
func (s *networkPolicies) addStatus(p *tenancyv1.NetworkPolicy) error {
	upTo, err := resolution.UpTo(s.bucket)
	if err != nil {
		return err
	}
	figures, err := resolution.Figures(s.bucket, policywire.KeyOf(p.GetKey()))
	if err != nil {
		return err
	}
	p.Status = policyStatus(p, figures, upTo)
	return nil
}

// policyStatus is how far a policy is.
func policyStatus(p *tenancyv1.NetworkPolicy, figures resolution.Resolved, upTo uint64) *tenancyv1.NetworkPolicyStatus {
	accepted := &tenancyv1.PolicyCondition{Type: "Accepted", Status: true, Reason: "Accepted", Message: "every field is supported"}
	resolved := &tenancyv1.PolicyCondition{Type: "Resolved", Status: true, Reason: "Resolved", Message: "selectors are answered"}
	if _, violations := resolution.ReadWritten(p); violations != nil {
		accepted.Status, accepted.Reason = false, "NotSupported"
		accepted.Message = (&policystore.InvalidError{Violations: violations}).Error()
	}
	switch {
	case !accepted.GetStatus():
		resolved.Status, resolved.Reason, resolved.Message = false, "NotSupported", "what was resolved before stays in force"
	case upTo < p.GetRevision() || figures.Revision == 0:
		resolved.Status, resolved.Reason, resolved.Message = false, "Pending", "the replica that resolves has not come to it yet"
	}
	return &tenancyv1.NetworkPolicyStatus{
		Conditions:       []*tenancyv1.PolicyCondition{accepted, resolved},
		ResolvedRevision: figures.Revision,
		Groups:           uint32(figures.Groups),  //nolint:gosec // far below
		Members:          uint32(figures.Members), //nolint:gosec // far below
	}
}

func (s *networkPolicies) WaitResolved(ctx context.Context, r *tenancyv1.WaitResolvedRequest) (*tenancyv1.WaitResolvedResponse, error) {
	if r.GetRevision() == 0 {
		var v rpcerr.Violations
		v.Addf("revision", "is required")
		return nil, v.Err(Domain)
	}
	sequence, err := s.waiter.Resolved(ctx, r.GetRevision())
	if err != nil {
		return nil, waited(ctx, err)
	}
	return &tenancyv1.WaitResolvedResponse{Sequence: sequence}, nil
}

func (s *networkPolicies) ExplainConnection(ctx context.Context, r *tenancyv1.ExplainConnectionRequest) (*tenancyv1.ExplainConnectionResponse, error) {
	q, err := parseConnection(r)
	if err != nil {
		return nil, err
	}
	if err := catchup.IfPossible(ctx, s.bucket); err != nil {
		return nil, s.fail.status(err)
	}
	snapshot := s.bucket.Snapshot()
	answer, err := explain.Answer(snapshot, q)
	if err != nil {
		return nil, s.fail.status(err)
	}
	mode, err := isolation.Read(snapshot)
	if err != nil {
		return nil, err
	}
	answer.Enforced = isolation.EnforcesPolicies(mode.GetMode())
	return answer, nil
}
