package server

import (
	"context"

	"github.com/damask-sdn/damask/internal/bucket"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/resolution"
)

// resolvedPolicies answers ResolvedPolicyService.
type resolvedPolicies struct {
	tenancyv1.UnsafeResolvedPolicyServiceServer

	bucket *bucket.Bucket
	fail   failures
}

func (s *resolvedPolicies) ListResolvedPolicies(ctx context.Context, r *tenancyv1.ListResolvedPoliciesRequest) (*tenancyv1.ListResolvedPoliciesResponse, error) {
	p, err := parseResolvedPage(r)
	if err != nil {
		return nil, err
	}
	if err := freshForOperators(ctx, s.bucket); err != nil {
		return nil, s.fail.status(err)
	}
	page, err := resolution.ListPolicies(s.bucket.Snapshot(), r.GetNames(), p.after, p.size)
	if err != nil {
		return nil, err
	}
	return &tenancyv1.ListResolvedPoliciesResponse{Policies: page.Objects, NextPageToken: token(page.Next), Sequence: page.Sequence}, nil
}

func (s *resolvedPolicies) ListAddressGroupShards(ctx context.Context, r *tenancyv1.ListAddressGroupShardsRequest) (*tenancyv1.ListAddressGroupShardsResponse, error) {
	p, err := parseShardPage(r)
	if err != nil {
		return nil, err
	}
	if err := freshForOperators(ctx, s.bucket); err != nil {
		return nil, s.fail.status(err)
	}
	page, err := resolution.ListShards(s.bucket.Snapshot(), r.GetGroups(), p.after, p.size)
	if err != nil {
		return nil, err
	}
	return &tenancyv1.ListAddressGroupShardsResponse{Shards: page.Objects, NextPageToken: token(page.Next), Sequence: page.Sequence}, nil
}

func (s *resolvedPolicies) ListPodPolicies(ctx context.Context, r *tenancyv1.ListPodPoliciesRequest) (*tenancyv1.ListPodPoliciesResponse, error) {
	p, err := parsePodPoliciesPage(r)
	if err != nil {
		return nil, err
	}
	if err := freshForOperators(ctx, s.bucket); err != nil {
		return nil, s.fail.status(err)
	}
	page, err := resolution.ListPods(s.bucket.Snapshot(), r.GetNode(), p.after, p.size)
	if err != nil {
		return nil, err
	}
	return &tenancyv1.ListPodPoliciesResponse{Pods: page.Objects, NextPageToken: token(page.Next), Sequence: page.Sequence}, nil
}
