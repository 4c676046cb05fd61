package server

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/rpcerr"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/spec"
	"github.com/damask-sdn/damask/services/egress/store"
)

// Limits of lists of policies, which may be large.
const (
	defaultPolicyPage = 100
	maxPolicyPage     = 1000
)

// policies answers EgressNetworkPolicyService.
type policies struct {
	egressv1.UnsafeEgressNetworkPolicyServiceServer

	store *store.Store
	log   hclog.Logger
}

func (p *policies) PutEgressNetworkPolicy(ctx context.Context, r *egressv1.PutEgressNetworkPolicyRequest) (*egressv1.PutEgressNetworkPolicyResponse, error) {
	var v rpcerr.Violations
	wish := r.GetEgressNetworkPolicy()
	if wish == nil {
		v.Addf("egress_network_policy", "is required")
	} else {
		wish = spec.PolicyDefaults(wish)
		spec.CheckPolicy(wish, &v)
	}
	if err := v.Err(Domain); err != nil {
		return nil, err
	}
	stored, err := p.store.PutPolicy(ctx, wish)
	if err != nil {
		return nil, status(err)
	}
	p.log.Debug("egress network policy stored", "namespace", stored.GetNamespace(), "policy", stored.GetName(), "rules", len(stored.GetRules()), "revision", stored.GetRevision())
	return &egressv1.PutEgressNetworkPolicyResponse{EgressNetworkPolicy: stored}, nil
}

func (p *policies) DeleteEgressNetworkPolicy(ctx context.Context, r *egressv1.DeleteEgressNetworkPolicyRequest) (*egressv1.DeleteEgressNetworkPolicyResponse, error) {
	var v rpcerr.Violations
	spec.CheckPolicyName("", r.GetNamespace(), r.GetName(), &v)
	if err := v.Err(Domain); err != nil {
		return nil, err
	}
	if err := p.store.DeletePolicy(ctx, r.GetNamespace(), r.GetName()); err != nil {
		return nil, status(err)
	}
	p.log.Debug("egress network policy deleted", "namespace", r.GetNamespace(), "policy", r.GetName())
	return &egressv1.DeleteEgressNetworkPolicyResponse{}, nil
}

func (p *policies) ListEgressNetworkPolicies(ctx context.Context, r *egressv1.ListEgressNetworkPoliciesRequest) (*egressv1.ListEgressNetworkPoliciesResponse, error) {
	q, err := sizedQuery(r, defaultPolicyPage, maxPolicyPage, "namespaces", r.GetNamespaces(), checkNamespace)
	page, err := answer(ctx, p.store, q, err, p.store.Policies)
	if err != nil {
		return nil, err
	}
	return &egressv1.ListEgressNetworkPoliciesResponse{EgressNetworkPolicies: page.Objects, NextPageToken: token(page.Next), Sequence: page.Sequence}, nil
}

func (p *policies) ListDNSNames(ctx context.Context, r *egressv1.ListDNSNamesRequest) (*egressv1.ListDNSNamesResponse, error) {
	q, err := query(r, "names", r.GetNames(), func(field, name string, v *rpcerr.Violations) { spec.CheckDNSName(field, name, v) })
	page, err := answer(ctx, p.store, q, err, p.store.DNSNames)
	if err != nil {
		return nil, err
	}
	return &egressv1.ListDNSNamesResponse{DnsNames: page.Objects, NextPageToken: token(page.Next), Sequence: page.Sequence}, nil
}

func (p *policies) ReportNames(ctx context.Context, r *egressv1.ReportNamesRequest) (*egressv1.ReportNamesResponse, error) {
	var v rpcerr.Violations
	spec.CheckReport(r, &v)
	if err := v.Err(Domain); err != nil {
		return nil, err
	}
	accepted, err := p.store.ReportNames(ctx, r.GetNames(), time.Now())
	if err != nil {
		return nil, status(err)
	}
	return &egressv1.ReportNamesResponse{Accepted: accepted}, nil
}
